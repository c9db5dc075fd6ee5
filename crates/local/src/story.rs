//! What to try first.

const RESOURCE_GROUP: &str = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/demo-rg";

/// Commands that show what Ajar does with `web-1` of the sample estate, one a line, at most seven, to be run in one
/// shell in this order. `ajar` and `azure` are base URLs without a slash at the end.
pub(crate) fn story(ajar: &str, azure: &str) -> Vec<String> {
    let policy = format!(
        "{ajar}{RESOURCE_GROUP}/providers/Microsoft.Security/locations/westeurope/jitNetworkAccessPolicies/demo"
    );
    let machine = format!("{RESOURCE_GROUP}/providers/Microsoft.Compute/virtualMachines/web-1");
    let call = r#"curl -sw '\n' -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json'"#;
    let probe = format!(
        "curl -sw '\\n' {azure}/sim/probe -d \
         '{{\"source\":\"203.0.113.7\",\"destination\":\"10.0.1.4\",\"port\":22,\"protocol\":\"Tcp\"}}'"
    );
    vec![
        format!("TOKEN=$(curl -s '{azure}/dev/token?user=alice')"),
        format!("{probe}   # SSH is open to everybody"),
        format!(
            "{call} -X PUT '{policy}?api-version=2020-01-01' -d '{{\"kind\":\"Basic\",\"properties\":{{\
             \"virtualMachines\":[{{\"id\":\"{machine}\",\"ports\":[{{\"number\":22,\"protocol\":\"TCP\",\
             \"allowedSourceAddressPrefix\":\"*\",\"maxRequestAccessDuration\":\"PT3H\"}}]}}]}}}}'"
        ),
        format!("{probe}   # closed"),
        format!(
            "{call} -X POST '{policy}/initiate?api-version=2020-01-01' -d '{{\"virtualMachines\":[{{\
             \"id\":\"{machine}\",\"ports\":[{{\"number\":22,\"duration\":\"PT1H\",\
             \"allowedSourceAddressPrefix\":\"203.0.113.7\"}}]}}]}}'"
        ),
        format!("{probe}   # open, to this one source, for an hour"),
        format!("{call} '{policy}?api-version=2020-01-01'"),
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_story_is_short() {
        let lines = super::story("http://127.0.0.1:7071", "http://127.0.0.1:7072");
        assert!((1..=7).contains(&lines.len()));
        assert!(lines.iter().all(|line| !line.contains('\n')));
    }
}
