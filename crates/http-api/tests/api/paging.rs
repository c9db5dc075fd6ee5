//! Lists that are longer than a page.

use crate::azure::{body, list, one};
use crate::client::Server;
use ajar_access::testing::SUBSCRIPTION;

/// Follows `nextLink` to the end; the sizes of the pages and all names.
async fn follow(server: &Server, uri: &str, user: &str) -> (Vec<usize>, Vec<String>) {
    let (mut sizes, mut names) = (Vec::new(), Vec::new());
    let mut next = Some(uri.to_owned());
    while let Some(uri) = next {
        assert!(sizes.len() < 20, "links lead round in a circle");
        let page = server.get(&uri, user).await.expect(200);
        let policies = page["value"].as_array().unwrap();
        sizes.push(policies.len());
        names.extend(policies.iter().map(|policy| policy["name"].as_str().unwrap().to_owned()));
        next = page.get("nextLink").map(|link| link.as_str().unwrap().to_owned());
    }
    (sizes, names)
}

async fn with_policies(server: &Server, group: &str, location: &str, count: usize) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|index| format!("{group}-{index:03}")).collect();
    for name in &names {
        let uri = one(name)
            .replace("/demo/", &format!("/{group}/"))
            .replace("/westeurope/", &format!("/{location}/"));
        server.put(&uri, "alice", body(&[])).await.expect(200);
    }
    names
}

#[tokio::test]
async fn every_resource_is_on_one_page_and_none_on_two() {
    let server = Server::new();
    let wanted = with_policies(&server, "demo", "westeurope", 230).await;
    let (sizes, names) = follow(&server, &list(false, None), "carol").await;
    assert_eq!((sizes, &names), (vec![100, 100, 30], &wanted));
    let (sizes, names) = follow(&server, &list(true, Some("westeurope")), "carol").await;
    assert_eq!((sizes, &names), (vec![100, 100, 30], &wanted));
}

#[tokio::test]
async fn a_list_that_just_fits_has_no_next_page() {
    let server = Server::new();
    with_policies(&server, "demo", "westeurope", 100).await;
    assert_eq!(follow(&server, &list(false, None), "carol").await.0, [100]);
}

#[tokio::test]
async fn pages_hold_what_the_caller_may_see_and_asked_for() {
    let server = Server::new();
    let other = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/another");
    server.world.azure.assign("alice", "configure", &other);
    let hidden = with_policies(&server, "another", "westeurope", 120).await;
    let north = with_policies(&server, "demo", "northeurope", 120).await;
    let west = with_policies(&server, "demo", "westeurope", 3).await;
    let all: Vec<String> = [north.as_slice(), west.as_slice()].concat();
    assert_eq!(follow(&server, &list(false, None), "carol").await.1, all);
    assert_eq!(follow(&server, &list(true, Some("westeurope")), "carol").await.1, west);
    let seen_by_alice = follow(&server, &list(false, None), "alice").await.1;
    assert_eq!(seen_by_alice, [hidden, north, west].concat());
}

#[tokio::test]
async fn the_link_leads_back_the_way_the_caller_came() {
    let server = Server::new();
    with_policies(&server, "demo", "westeurope", 101).await;
    for (headers, origin) in [
        (&[("host", "127.0.0.1:7071")][..], "http://127.0.0.1:7071"),
        (&[("host", "ajar.example"), ("x-forwarded-proto", "https")], "https://ajar.example"),
        (&[], ""),
    ] {
        let mut request = http::Request::get(list(true, None)).header("authorization", "Bearer carol");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let page = server.send(request.body(axum::body::Body::empty()).unwrap()).await.expect(200);
        let link = page["nextLink"].as_str().unwrap();
        let path = list(true, None);
        assert!(link.starts_with(&format!("{origin}{path}&$skipToken=")), "{link}");
        // A client takes the query apart and encodes it again.
        let (start, token) = link.rsplit_once('=').unwrap();
        let start = start.strip_prefix(origin).unwrap().replace('$', "%24");
        let next = server.get(&format!("{start}={}", token.replace(':', "%3A")), "carol").await.expect(200);
        assert_eq!(next["value"].as_array().unwrap().len(), 1);
        assert_eq!(next["value"][0]["name"], "demo-100");
    }
}

#[tokio::test]
async fn a_place_that_is_made_up_shows_nothing_else() {
    let server = Server::new();
    with_policies(&server, "demo", "westeurope", 2).await;
    for bad in ["", "x", "a:b/c", "%FF", ":%20"] {
        let uri = format!("{}&$skipToken={bad}", list(true, None));
        let (_, target) = server.get(&uri, "carol").await.error(400, "InvalidQueryParameter");
        assert!(target.is_none_or(|target| target == "$skipToken"), "{bad}");
    }
    for (place, count) in [("0:0", 2), ("~:~", 0), (":", 2)] {
        let uri = format!("{}&$skipToken={place}", list(true, None));
        let page = server.get(&uri, "carol").await.expect(200);
        assert_eq!(page["value"].as_array().map(Vec::len), Some(count), "{place}: {}", page);
    }
}
