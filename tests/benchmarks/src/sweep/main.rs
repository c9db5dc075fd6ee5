//! `sweep`: what the sweeps cost. The daily one over an estate of 10,000 VMs: memory, lists read, calls of Azure
//! Resource Manager. The minute sweep: writes for 10,000 grants that end in one second, and time and calls to the store
//! for one due grant among few and among many live ones.
//!
//! Ajar's use cases and adapters are in this process, whose memory is measured; the simulated Azure is in another one,
//! which is this program again, and so is Azurite.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot be carried out ends"
)]

mod closing;
mod cost;
mod counted_store;
mod estate;
#[path = "../open_vms.rs"]
mod open_vms;
mod simulated;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve", "estate"] => simulated::serve(&estate::resources()).await,
        ["serve", "closing"] => simulated::serve(&closing::resources()).await,
        [] | ["estate" | "closing" | "cost"] => {
            let wanted = |name: &str| arguments.first().is_none_or(|only| *only == name);
            println!("load {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
            if wanted("estate") {
                estate::measure().await;
            }
            if wanted("closing") {
                closing::measure().await;
            }
            if wanted("cost") {
                cost::measure().await;
            }
        }
        _ => panic!("sweep [estate|closing|cost]"),
    }
}
