//! What to try first.

const VM: &str = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/demo-rg/providers/\
                  Microsoft.Compute/virtualMachines/web-1";

/// A few shell lines that show what Ajar does with `web-1` of the sample estate, to be pasted into one shell in this
/// order. `ajar` and `azure` are base URLs without a slash at the end.
pub(crate) fn story(ajar: &str, azure: &str) -> String {
    format!(
        r#"
Paste this into another terminal. Port 22 of web-1 stands open; the probe decides packets on its own.

  VM={VM}
  as() {{ curl -s "{azure}/dev/token?user=$1"; }}
  probe() {{ curl -s {azure}/sim/probe -d '{{"source":"'$1'","destination":"'$VM'","port":22,"protocol":"Tcp"}}'; echo; }}
  probe 203.0.113.7   # open to the Internet

Ajar says so:
  curl -s -H "Authorization: Bearer $(as carol)" "{ajar}/api/assessments?vm=$VM"; echo

alice may configure it and turns just-in-time access on:
  curl -s -X PUT -H "Authorization: Bearer $(as alice)" -H 'Content-Type: application/json' {ajar}/api/policies -d '{{"vm":"'$VM'","ports":[{{"port":22}}],"minimumDuration":"PT1S"}}'; echo
  sleep 2; probe 203.0.113.7   # shut

bob may request access, and does, for fifteen seconds:
  curl -s -H "Authorization: Bearer $(as bob)" -H 'Content-Type: application/json' {ajar}/api/requests -d '{{"vm":"'$VM'","ports":[{{"port":22,"sources":["203.0.113.7"]}}],"duration":"PT15S","justification":"trying Ajar out"}}'; echo
  sleep 2; probe 203.0.113.7   # open for him
  probe 203.0.113.8            # not for his neighbour
  sleep 15; probe 203.0.113.7  # shut again, by itself

carol may only read and mallory nothing: try the last request as one of them. Ctrl-C here stops everything."#
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_story_has_at_most_seven_lines_of_curl() {
        let story = super::story("http://127.0.0.1:7071", "http://127.0.0.1:7072");
        let commands = story.lines().filter(|line| line.starts_with("  "));
        assert!((1..=7).contains(&commands.filter(|line| line.contains("curl")).count()));
    }
}
