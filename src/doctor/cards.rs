//! Network cards: where they are, how many queues they have, and which CPUs take their interrupts.
//!
//! Interfaces without a device (loopback, bridges, veth) are no cards. Read from sysfs and `/proc/irq`.
//!
//! Not here: setting any of it (`scripts/tune`).

use std::fs;
use std::path::Path;

use super::text;

/// Names that are read of one directory: more than any host has cards, or a card has interrupts.
const NAMES_MAX: usize = 4096;

/// One interrupt of a card.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Irq {
    /// Its number.
    pub number: u32,
    /// The CPUs that take it now.
    pub cpus: Vec<usize>,
}

/// A network card.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Card {
    /// Like `eth0`.
    pub name: String,
    /// Its memory node, if the machine says so.
    pub node: Option<usize>,
    /// Queues for what comes in.
    pub rx_queues: usize,
    /// Megabits a second, if the link is up.
    pub speed: Option<u64>,
    /// Its interrupts, where they are shown.
    pub irqs: Vec<Irq>,
}

/// The cards of the machine that are not down, by name.
pub(super) fn read(root: &Path) -> Vec<Card> {
    let net = root.join("sys/class/net");
    let mut cards: Vec<Card> = names(&net).into_iter().filter_map(|name| card(root, &net, name)).collect();
    cards.sort_by(|a, b| a.name.cmp(&b.name));
    cards
}

fn card(root: &Path, net: &Path, name: String) -> Option<Card> {
    let dir = net.join(&name);
    let device = dir.join("device");
    if !device.exists() || read_text(&dir.join("operstate")).as_deref() == Some("down") {
        return None;
    }
    let number = |path: &Path| read_text(path)?.parse::<i64>().ok();
    let node = number(&device.join("numa_node")).and_then(|node| usize::try_from(node).ok());
    let rx_queues = names(&dir.join("queues")).iter().filter(|queue| queue.starts_with("rx-")).count();
    let speed = number(&dir.join("speed")).and_then(|speed| u64::try_from(speed).ok());
    // A virtio card's own device is on the one that has the interrupts.
    let mut numbers = names(&device.join("msi_irqs"));
    if numbers.is_empty() {
        numbers = names(&device.join("../msi_irqs"));
    }
    let mut irqs: Vec<Irq> = numbers.iter().filter_map(|number| irq(root, number.parse().ok()?)).collect();
    irqs.sort_by_key(|irq| irq.number);
    Some(Card { name, node, rx_queues, speed, irqs })
}

fn irq(root: &Path, number: u32) -> Option<Irq> {
    let dir = root.join(format!("proc/irq/{number}"));
    let files = ["effective_affinity_list", "smp_affinity_list"];
    let cpus = files.iter().map(|file| text::cpus(&read_text(&dir.join(file)).unwrap_or_default()));
    Some(Irq { number, cpus: cpus.into_iter().find(|cpus| !cpus.is_empty())? })
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.take(NAMES_MAX).collect()
}

fn read_text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}
