//! What to try first.

/// Commands that show what Ajar does, one a line, at most seven. `ajar` and `azure` are base URLs without a slash
/// at the end.
pub(crate) fn story(ajar: &str, azure: &str) -> Vec<String> {
    vec![
        format!("curl {ajar}/api/health"),
        format!("TOKEN=$(curl -s '{azure}/dev/token?user=alice')"),
        format!(
            "curl {azure}/sim/probe -d '{{\"source\":\"203.0.113.7\",\"destination\":\"10.0.1.4\",\"port\":22,\"protocol\":\"Tcp\"}}'"
        ),
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
