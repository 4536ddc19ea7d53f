//! `GET /`: what answers here, and where to go next.

use bigpeer_connection::{Method, Request, Response};

use super::Door;
use super::route::wrong_method;

/// Answers `GET /`, in HTML where a browser asks.
pub(super) fn route(request: &Request, door: Door) -> Response {
    if !matches!(request.method(), Method::Get | Method::Head) {
        return wrong_method(request, "GET");
    }
    let accept = request.accept().unwrap_or_default();
    match accept.split(',').any(|kind| kind.trim_start().starts_with("text/html")) {
        true => Response::new(200, "text/html; charset=utf-8", html(door)),
        false => Response::json(200, json(door)),
    }
}

const NAME: &str = "bigpeer";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Names and targets, none of which needs escaping.
fn links(door: Door) -> &'static [(&'static str, &'static str)] {
    match door {
        Door::Data | Door::Peer => &[
            ("live", "/health/live"),
            ("ready", "/health/ready"),
            ("execute", "/{app}/api/v5/store/execute"),
            ("sync", "/{app}/_ditto"),
        ],
        Door::Admin => &[
            ("live", "/health/live"),
            ("ready", "/health/ready"),
            ("metrics", "/metrics"),
            ("apps", "/admin/apps"),
        ],
    }
}

fn json(door: Door) -> String {
    let links: Vec<_> =
        links(door).iter().map(|(name, target)| format!("\"{name}\":\"{target}\"")).collect();
    format!("{{\"name\":\"{NAME}\",\"version\":\"{VERSION}\",\"links\":{{{}}}}}", links.join(","))
}

fn html(door: Door) -> String {
    let link = |(name, target): &(&str, &str)| match target.contains('{') {
        // A target with a blank to fill in leads nowhere.
        true => format!("<li>{name}: <code>{target}</code></li>"),
        false => format!("<li>{name}: <a href=\"{target}\">{target}</a></li>"),
    };
    let links: String = links(door).iter().map(link).collect();
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{NAME} {VERSION}</title>\
         <h1>{NAME} {VERSION}</h1><ul>{links}</ul></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use bigpeer_core::value::json as reader;

    use super::*;

    #[test]
    fn the_root_says_what_this_is_and_where_to_go() {
        for door in [Door::Data, Door::Admin] {
            let request = Request::new(Method::Get, "/", &[], b"").expect("well-formed");
            let response = route(&request, door);
            assert_eq!((response.status, &*response.content_type), (200, "application/json"));
            let value = reader::parse(&response.body, reader::Limits::default()).expect("JSON");
            let object = value.as_object().expect("an object");
            assert_eq!(object.get("name").and_then(|name| name.as_str()), Some(NAME));
            assert!(object.get("links").and_then(|links| links.as_object()).is_some());
            let headers = [("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
            let request = Request::new(Method::Get, "/", &headers, b"").expect("well-formed");
            let page = route(&request, door);
            assert!(page.content_type.starts_with("text/html"));
            let text = String::from_utf8(page.body.to_vec()).expect("text");
            assert!(text.contains("href=\"/health/ready\"") && text.contains(VERSION), "{text}");
        }
    }
}
