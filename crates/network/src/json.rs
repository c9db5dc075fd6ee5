//! Reading ARM's JSON leniently: keys in any case, absent and null alike, numbers that came as text.

use serde_json::{Map, Value};

/// The value under a key, spelled in any case; null counts as absent.
pub(crate) fn get<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    let map = value.as_object()?;
    map.get(key)
        .or_else(|| map.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v))
        .filter(|v| !v.is_null())
}

/// The `properties` object, or the value itself where a tool has flattened it.
pub(crate) fn properties(value: &Value) -> &Value {
    get(value, "properties").filter(|p| p.is_object()).unwrap_or(value)
}

pub(crate) fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    get(value, key).and_then(Value::as_str)
}

pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    get(value, key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The `id` of an object such as `{"id": "/subscriptions/..."}` under the key.
pub(crate) fn reference<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    get(value, key).and_then(|v| text(v, "id"))
}

/// A whole number, also when it came as text.
pub(crate) fn number(value: &Value, key: &str) -> Option<u64> {
    match get(value, key)? {
        Value::Number(n) => {
            n.as_u64().or_else(|| n.as_f64().filter(|f| f.fract() == 0.0 && *f >= 0.0).map(|f| f as u64))
        }
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    }
}

/// A truth value, also when it came as text.
pub(crate) fn boolean(value: &Value, key: &str) -> Option<bool> {
    match get(value, key)? {
        Value::Bool(b) => Some(*b),
        Value::String(s) if s.eq_ignore_ascii_case("true") => Some(true),
        Value::String(s) if s.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// The slot of a key, under its existing spelling if it has one.
pub(crate) fn slot<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Value {
    let spelled = if map.contains_key(key) {
        key.to_owned()
    } else {
        map.keys().find(|k| k.eq_ignore_ascii_case(key)).cloned().unwrap_or_else(|| key.to_owned())
    };
    map.entry(spelled).or_insert(Value::Null)
}

/// The `properties` object to write into, or the map itself where there is none.
pub(crate) fn properties_mut(map: &mut Map<String, Value>) -> &mut Map<String, Value> {
    // Looked for first and borrowed afterwards: a borrow returned from a search would outlive the search.
    let inner = map.iter().any(|(k, v)| k.eq_ignore_ascii_case("properties") && v.is_object());
    if !inner {
        return map;
    }
    let mut found = None;
    for (key, value) in map.iter_mut() {
        if let (true, Value::Object(object)) = (key.eq_ignore_ascii_case("properties"), value) {
            found = Some(object);
            break;
        }
    }
    #[expect(
        clippy::expect_used,
        reason = "`inner` says that such an entry exists, and nothing changed since"
    )]
    found.expect("an object under `properties`")
}
