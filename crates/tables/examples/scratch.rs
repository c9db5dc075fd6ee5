//! scratch
use ajar_access::{keys::Key, ports::store::*};
#[tokio::main]
async fn main() {
    let store = ajar_tables::TableStore::azurite(&std::env::args().nth(1).unwrap()).unwrap();
    let p = Key::new(["0123456789abcdef0123"]);
    for (i, doc) in [
        r#"{"v":1,"a":"x"}"#.to_string(),
        r#"{"v":1,"id":"/subscriptions/1/resourceGroups/demo-rg/providers/Microsoft.Compute/virtualMachines/web-1"}"#.to_string(),
        r#"{"v":1,"what":"asked for access: INC-42"}"#.to_string(),
        r#"{"v":1,"kind":"decide","etag":"W/\"datetime'2026-11-24T12%3A16%3A39.3600000Z'\""}"#.to_string(),
        r#"{"v":1,"x":"status: \"Requested\" HTTP/1.1 POST PUT DELETE"}"#.to_string(),
    ].into_iter().enumerate() {
        let changes = vec![
            Change::Insert { row: Key::new([format!("r{i}")]), document: doc.clone() },
            Change::Insert { row: Key::new([format!("h{i}")]), document: doc.clone() },
        ];
        println!("{i} {:?} {doc}", store.commit(Table::Requests, &p, &changes).await);
    }
}
