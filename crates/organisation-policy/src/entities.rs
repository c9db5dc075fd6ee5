//! A question in Cedar's terms: entities by id in lower case, and the context of the schema.

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression as Value,
    Schema,
};

use crate::question::{Asked, Circumstances, Machine, Person, Question, Undecidable, Want};

/// Cedar's request and the entities it is about.
pub(crate) fn of(question: &Question, schema: &Schema) -> Result<(Request, Entities), Undecidable> {
    let resource = VmNames::of(&question.vm)?;
    let principal = uid("Person", &question.person.id)?;
    let mut entities = person(&question.person)?;
    if let Want::Approve { requester, .. } = &question.want
        && !requester.id.eq_ignore_ascii_case(&question.person.id)
    {
        entities.extend(person(requester)?);
    }
    // A group that both are in comes once.
    let mut seen = std::collections::HashSet::new();
    entities.retain(|entity| seen.insert(entity.uid()));
    entities.extend(resource.entities(&question.vm)?);
    let entities = Entities::from_entities(entities, None).map_err(undecidable)?;

    let mut pairs = vec![("by".to_owned(), circumstances(&question.by)?)];
    if let Some(asked) = question.want.asked() {
        pairs.push(("asked".to_owned(), opened(asked)?));
    }
    if let Want::Approve { requester, approvals, .. } = &question.want {
        pairs.push(("requester".to_owned(), Value::new_entity_uid(uid("Person", &requester.id)?)));
        pairs.push(("approvals".to_owned(), Value::new_long(i64::from(*approvals))));
    }
    let context = Context::from_pairs(pairs).map_err(undecidable)?;
    let action = uid("Action", question.want.action())?;
    let request = Request::new(principal, action, resource.vm, context, Some(schema)).map_err(undecidable)?;
    Ok((request, entities))
}

fn undecidable(error: impl std::fmt::Display) -> Undecidable {
    Undecidable(error.to_string())
}

/// The entity of this kind; ids in lower case but for actions.
pub(crate) fn uid(kind: &str, id: &str) -> Result<EntityUid, Undecidable> {
    let kind_name: EntityTypeName = format!("Ajar::{kind}").parse().map_err(undecidable)?;
    let id = if kind == "Action" { id.to_owned() } else { id.to_ascii_lowercase() };
    Ok(EntityUid::from_type_name_and_id(kind_name, EntityId::new(id)))
}

fn person(person: &Person) -> Result<Vec<Entity>, Undecidable> {
    let groups: Vec<EntityUid> = person.groups.iter().map(|id| uid("Group", id)).collect::<Result<_, _>>()?;
    let mut all: Vec<Entity> = groups.iter().cloned().map(Entity::with_uid).collect();
    let name = ("name".to_owned(), text(&person.name));
    all.push(Entity::new_with_tags(uid("Person", &person.id)?, [name], groups, []).map_err(undecidable)?);
    Ok(all)
}

/// The VM and what it is in.
struct VmNames {
    vm: EntityUid,
    name: String,
    group: EntityUid,
    group_name: String,
    subscription: EntityUid,
}

impl VmNames {
    fn of(vm: &Machine) -> Result<Self, Undecidable> {
        let id = vm.id.to_ascii_lowercase();
        let parts: Vec<&str> = id.split('/').collect();
        let [
            "",
            "subscriptions",
            subscription,
            "resourcegroups",
            group,
            "providers",
            "microsoft.compute",
            "virtualmachines",
            name,
        ] = parts.as_slice()
        else {
            return Err(Undecidable(format!("`{}` is not the resource id of a VM", vm.id)));
        };
        Ok(Self {
            vm: uid("VirtualMachine", &id)?,
            name: (*name).to_owned(),
            group: uid("ResourceGroup", &format!("/subscriptions/{subscription}/resourcegroups/{group}"))?,
            group_name: (*group).to_owned(),
            subscription: uid("Subscription", subscription)?,
        })
    }

    fn entities(&self, vm: &Machine) -> Result<[Entity; 3], Undecidable> {
        let attributes = [("name".to_owned(), text(&self.name)), ("location".to_owned(), text(&vm.location))];
        let tags = vm.tags.iter().map(|(key, value)| (key.clone(), text(value)));
        let parents = [self.group.clone()];
        Ok([
            Entity::new_with_tags(self.vm.clone(), attributes, parents, tags).map_err(undecidable)?,
            Entity::new_with_tags(
                self.group.clone(),
                [("name".to_owned(), text(&self.group_name))],
                [self.subscription.clone()],
                [],
            )
            .map_err(undecidable)?,
            Entity::with_uid(self.subscription.clone()),
        ])
    }
}

fn text(value: &str) -> Value {
    Value::new_string(value.to_owned())
}

fn texts<'a>(values: impl IntoIterator<Item = &'a String>) -> Value {
    Value::new_set(values.into_iter().map(|value| text(value)))
}

fn record<const N: usize>(fields: [(&str, Value); N]) -> Result<Value, Undecidable> {
    Value::new_record(fields.map(|(name, value)| (name.to_owned(), value))).map_err(undecidable)
}

fn circumstances(by: &Circumstances) -> Result<Value, Undecidable> {
    let authentication = record([
        ("methods", texts(&by.authentication.methods)),
        ("contexts", texts(&by.authentication.contexts)),
    ])?;
    let clock = record([
        ("zone", text(&by.clock.zone)),
        ("weekday", text(&by.clock.weekday)),
        ("minuteOfDay", Value::new_long(i64::from(by.clock.minute_of_day))),
    ])?;
    record([
        ("authentication", authentication),
        ("clock", clock),
        ("onCall", Value::new_bool(by.on_call)),
        ("channel", text(&by.channel)),
    ])
}

fn opened(asked: &Asked) -> Result<Value, Undecidable> {
    let mut fields = vec![
        ("ports".to_owned(), texts(&asked.ports)),
        ("lowestPort".to_owned(), Value::new_long(i64::from(asked.lowest_port))),
        ("highestPort".to_owned(), Value::new_long(i64::from(asked.highest_port))),
        ("protocols".to_owned(), texts(&asked.protocols)),
        ("sources".to_owned(), texts(&asked.sources)),
        ("widestSourceBits".to_owned(), Value::new_long(i64::from(asked.widest_source_bits))),
        ("duration".to_owned(), Value::new_duration(format!("{}s", asked.duration_seconds))),
    ];
    if let Some(why) = &asked.justification {
        fields.push(("justification".to_owned(), text(why)));
    }
    if let Some(ticket) = &asked.ticket {
        let mut of_ticket = vec![("id".to_owned(), text(&ticket.id))];
        of_ticket.extend(ticket.state.iter().map(|state| ("state".to_owned(), text(state))));
        fields.push(("ticket".to_owned(), Value::new_record(of_ticket).map_err(undecidable)?));
    }
    Value::new_record(fields).map_err(undecidable)
}
