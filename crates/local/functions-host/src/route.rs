//! Route templates as ASP.NET Core matches them for functions (protocol page, section 4.3).

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// Compared ignoring case.
    Literal(String),
    Parameter {
        name: String,
        optional: bool,
        default: Option<String>,
        constraint: Option<Constraint>,
    },
    /// `{*rest}`: everything that is left, nothing included.
    CatchAll {
        name: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Constraint {
    Int,
    Long,
    Guid,
    Bool,
    Alpha,
}

impl Constraint {
    fn admits(self, value: &str) -> bool {
        match self {
            Self::Int => value.parse::<i32>().is_ok(),
            Self::Long => value.parse::<i64>().is_ok(),
            Self::Guid => uuid::Uuid::parse_str(value).is_ok(),
            Self::Bool => value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false"),
            Self::Alpha => value.bytes().all(|byte| byte.is_ascii_alphabetic()),
        }
    }
}

/// A parsed template, prefix included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    text: String,
    segments: Vec<Segment>,
}

/// Route values in template order; `None` for an optional parameter that was not given.
pub(crate) type Parameters = Vec<(String, Option<String>)>;

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let segments = text
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(parameter) => parse_parameter(parameter),
                None if segment.contains(['{', '}']) => Err(format!(
                    "the route segment '{segment}' mixes text and parameters, which this host does not support"
                )),
                None => Ok(Segment::Literal(segment.to_owned())),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let catch_all_at = segments.iter().position(|segment| matches!(segment, Segment::CatchAll { .. }));
        if catch_all_at.is_some_and(|at| at + 1 != segments.len()) {
            return Err("a catch-all parameter must be the last segment of a route".to_owned());
        }
        Ok(Self { text: text.to_owned(), segments })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Matches a decoded path. One trailing slash is tolerated, an empty segment is not.
    pub(crate) fn matches(&self, path: &str) -> Option<Parameters> {
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.starts_with('/') || path.contains("//") {
            return None;
        }
        let mut rest = path.strip_suffix('/').unwrap_or(path);
        let mut values = Parameters::new();
        for segment in &self.segments {
            let (head, tail) = match rest.split_once('/') {
                Some((head, tail)) => (head, tail),
                None => (rest, ""),
            };
            match segment {
                Segment::Literal(literal) => {
                    if !unicode_eq_ignore_case(literal, head) {
                        return None;
                    }
                }
                Segment::Parameter { name, optional, default, constraint } => {
                    let value = if head.is_empty() {
                        if default.is_none() && !optional {
                            return None;
                        }
                        default.clone()
                    } else {
                        Some(head.to_owned())
                    };
                    if let (Some(value), Some(constraint)) = (&value, constraint)
                        && !constraint.admits(value)
                    {
                        return None;
                    }
                    values.push((name.clone(), value));
                }
                Segment::CatchAll { name } => {
                    values.push((name.clone(), (!rest.is_empty()).then(|| rest.to_owned())));
                    return Some(values);
                }
            }
            rest = tail;
        }
        rest.is_empty().then_some(values)
    }
}

fn unicode_eq_ignore_case(left: &str, right: &str) -> bool {
    left.to_lowercase() == right.to_lowercase()
}

fn parse_parameter(text: &str) -> Result<Segment, String> {
    if let Some(name) = text.strip_prefix('*') {
        let name = name.trim_start_matches('*').split([':', '=', '?']).next().unwrap_or_default();
        return Ok(Segment::CatchAll { name: name.to_owned() });
    }
    let (text, optional) = match text.strip_suffix('?') {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let (text, default) = match text.split_once('=') {
        Some((rest, default)) => (rest, Some(default.to_owned())),
        None => (text, None),
    };
    let (name, constraint) = match text.split_once(':') {
        Some((name, constraint)) => (name, Some(constraint)),
        None => (text, None),
    };
    let constraint = constraint
        .map(|constraint| match constraint {
            "int" => Ok(Constraint::Int),
            "long" => Ok(Constraint::Long),
            "guid" => Ok(Constraint::Guid),
            "bool" => Ok(Constraint::Bool),
            "alpha" => Ok(Constraint::Alpha),
            other => Err(format!(
                "the route constraint '{other}' is not supported by this host; use int, long, guid, bool or alpha"
            )),
        })
        .transpose()?;
    if name.is_empty() {
        return Err("a route parameter has no name".to_owned());
    }
    Ok(Segment::Parameter { name: name.to_owned(), optional, default, constraint })
}
