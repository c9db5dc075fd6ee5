//! Every answer on Azure's paths, held against the official specification: the operation knows its status, and the
//! body has the operation's type and no field that the type does not have.

use jsonschema::Validator;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

const SWAGGER: &str = include_str!("../data/jit-api/swagger.json");

/// `common/v1/types.json` of the specification's repository, as far as this API uses it.
fn common_types() -> Value {
    json!({
        "Resource": { "type": "object", "properties": {
            "id": { "type": "string" }, "name": { "type": "string" }, "type": { "type": "string" } } },
        "Kind": { "type": "object", "properties": { "kind": { "type": "string" } } },
        "Location": { "type": "object", "properties": { "location": { "type": "string" } } },
        "CloudError": { "type": "object", "properties": { "error": { "$ref": "#/definitions/CloudErrorBody" } },
            "required": ["error"], "unevaluatedProperties": false },
        "CloudErrorBody": { "type": "object", "unevaluatedProperties": false,
            // Its fields are optional there; an error without these two would help nobody.
            "required": ["code", "message"],
            "properties": {
                "code": { "type": "string" }, "message": { "type": "string" }, "target": { "type": "string" },
                "details": { "type": "array", "items": { "$ref": "#/definitions/CloudErrorBody" } },
                "additionalInfo": { "type": "array" } } },
    })
}

/// One operation of the specification.
struct Operation {
    method: String,
    path: Vec<String>,
    /// By status; `default` stands for every other.
    answers: Map<String, Value>,
}

static OPERATIONS: LazyLock<Vec<Operation>> = LazyLock::new(|| {
    let swagger: Value = serde_json::from_str(SWAGGER).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in swagger["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations.push(Operation {
                method: method.to_uppercase(),
                path: segments(path),
                answers: operation["responses"].as_object().unwrap().clone(),
            });
        }
    }
    operations
});

static DEFINITIONS: LazyLock<Value> = LazyLock::new(|| {
    let swagger: Value = serde_json::from_str(SWAGGER).unwrap();
    let mut definitions = as_json_schema(swagger["definitions"].clone());
    for definition in definitions.as_object_mut().unwrap().values_mut() {
        if definition["type"] == "object" {
            definition["unevaluatedProperties"] = json!(false);
        }
    }
    // The service answers it to a PUT, as recorded, and the specification does not have it.
    definitions["JitNetworkAccessPolicyProperties"]["properties"]["appendMode"] =
        json!({ "type": "boolean" });
    definitions.as_object_mut().unwrap().extend(common_types().as_object().unwrap().clone());
    definitions
});

fn segments(path: &str) -> Vec<String> {
    path.trim_matches('/').split('/').map(str::to_owned).collect()
}

/// Swagger's own words taken out: references to other files lead into this one, and an enum that is "modelled as a
/// string" is one that a client must expect more values of.
fn as_json_schema(swagger: Value) -> Value {
    match swagger {
        Value::Object(mut object) => {
            if object.get("x-ms-enum").is_some_and(|more| more["modelAsString"] == true) {
                object.remove("enum");
            }
            let kept = object.into_iter().filter(|(name, _)| !name.starts_with("x-ms-"));
            kept.map(|(name, value)| match (name.as_str(), value.as_str()) {
                ("$ref", Some(target)) => {
                    let (_, fragment) = target.split_once('#').unwrap();
                    (name, json!(format!("#{fragment}")))
                }
                _ => (name, as_json_schema(value)),
            })
            .collect::<Map<_, _>>()
            .into()
        }
        Value::Array(items) => items.into_iter().map(as_json_schema).collect(),
        other => other,
    }
}

fn validator(schema: &Value) -> Validator {
    let mut whole = as_json_schema(schema.clone());
    whole["definitions"] = DEFINITIONS.clone();
    jsonschema::options().should_validate_formats(true).build(&whole).unwrap()
}

/// The operation that a request is for, if it is for one.
fn operation(method: &str, path: &str) -> Option<&'static Operation> {
    let path = segments(path);
    OPERATIONS.iter().find(|operation| {
        operation.method == method
            && operation.path.len() == path.len()
            && operation.path.iter().zip(&path).all(|(template, segment)| match template.as_str() {
                "{jitNetworkAccessPolicyInitiateType}" => segment.eq_ignore_ascii_case("initiate"),
                parameter if parameter.starts_with('{') => true,
                fixed => fixed.eq_ignore_ascii_case(segment),
            })
    })
}

/// Fails when an answer is none that the specification allows. Requests of no operation are answered with an error.
#[track_caller]
pub(crate) fn check(method: &str, path: &str, status: u16, body: &str) {
    let answers = operation(method, path).map(|operation| &operation.answers);
    let answer = answers.and_then(|answers| answers.get(&status.to_string()));
    let schema = match answer {
        Some(answer) => answer.get("schema").cloned(),
        None => {
            assert!(status >= 400, "{method} {path}: {status} is no answer of the operation");
            Some(json!({ "$ref": "#/definitions/CloudError" }))
        }
    };
    let Some(schema) = schema else {
        assert_eq!(body, "", "{method} {path}: {status} has no body");
        return;
    };
    let body: Value = serde_json::from_str(body).unwrap();
    let wrong: Vec<String> = validator(&schema)
        .iter_errors(&body)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect();
    assert!(wrong.is_empty(), "{method} {path} {status}: {}\n{body:#}", wrong.join("\n"));
}

#[test]
fn all_eight_operations_are_known() {
    assert_eq!(OPERATIONS.len(), 8);
    let group = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Security";
    let one = format!("{group}/locations/l/jitNetworkAccessPolicies/p");
    for (method, path, status) in [
        ("GET", "/subscriptions/s/providers/Microsoft.Security/jitNetworkAccessPolicies".to_owned(), "200"),
        (
            "GET",
            "/subscriptions/s/providers/microsoft.security/locations/l/JITnetworkaccesspolicies".to_owned(),
            "200",
        ),
        ("GET", format!("{group}/jitNetworkAccessPolicies"), "200"),
        ("GET", format!("{group}/locations/l/jitNetworkAccessPolicies"), "200"),
        ("GET", one.clone(), "200"),
        ("PUT", one.clone(), "200"),
        ("DELETE", one.clone(), "204"),
        ("POST", format!("{one}/initiate"), "202"),
    ] {
        let found = operation(method, &path).unwrap_or_else(|| panic!("{method} {path}"));
        assert!(found.answers.contains_key(status), "{method} {path}");
    }
    assert!(operation("POST", &one).is_none() && operation("PATCH", &one).is_none());
}

/// What would show that the check checks nothing.
#[test]
fn an_answer_that_is_wrong_does_not_pass() {
    let schema = json!({ "$ref": "#/definitions/JitNetworkAccessPolicy" });
    let good = json!({
        "kind": "Basic", "id": "i", "name": "n", "type": "t", "location": "l",
        "properties": { "provisioningState": "Succeeded", "virtualMachines": [{ "id": "v", "ports": [
            { "number": 22, "protocol": "TCP", "maxRequestAccessDuration": "PT3H" }] }],
            "requests": [{ "requestor": "r", "startTimeUtc": "2026-11-24T12:00:00.1234567Z", "virtualMachines": [
                { "id": "v", "ports": [{ "number": 22, "endTimeUtc": "2026-11-24T13:00:00Z",
                    "status": "Initiating", "statusReason": "UserRequested" }] }] }] },
    });
    assert!(validator(&schema).is_valid(&good), "the good one passes");
    let request = "/properties/requests/0";
    for (pointer, value) in [
        ("/properties/virtualMachines/0/ports/0/number", json!(65536)),
        ("/properties/virtualMachines/0/ports/0/number", json!("22")),
        ("/properties/virtualMachines/0/ports/0", json!({ "number": 22, "protocol": "TCP" })),
        ("/properties/virtualMachines", json!(null)),
        ("/properties", json!({ "virtualMachines": [], "unheardOf": 1 })),
        ("/location", json!(1)),
        (&format!("{request}/startTimeUtc"), json!("yesterday")),
        (&format!("{request}/requestor"), json!(null)),
        (&format!("{request}/virtualMachines/0/ports/0/endTimeUtc"), json!("12:00")),
        (&format!("{request}/virtualMachines/0/ports/0/status"), json!(1)),
    ] {
        let mut wrong = good.clone();
        *wrong.pointer_mut(pointer).unwrap() = value.clone();
        assert!(!validator(&schema).is_valid(&wrong), "{pointer} {value}");
    }
}
