//! The node.
#![forbid(unsafe_code)]

fn main() {
    let addr =
        std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or_else(|| ([0, 0, 0, 0], 8080).into());
    match corelane::Server::new(addr).start(|_| corelane::node::app()) {
        Ok(running) => {
            eprintln!("listening on {}", running.addr());
            for l in running.describe() {
                eprintln!("{l}");
            }
            if let Err(e) = running.wait() {
                eprintln!("corelane: {e}");
                std::process::exit(1);
            }
        }
        Err(e) => {
            eprintln!("corelane: {e}");
            std::process::exit(2);
        }
    }
}
