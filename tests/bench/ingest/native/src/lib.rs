//! What each program is told and tells, and the cells that it counts; the same as those of orgstats.

use std::collections::HashMap;
use std::env;
use std::time::Instant;

use foldhash::fast::RandomState;

/// The records to take, and a stopwatch from the first of them to the end of the work.
pub struct Job {
    pub topic: String,
    pub wanted: u64,
    taken: u64,
    began: Option<(Instant, f64)>,
}

impl Job {
    pub fn new() -> Self {
        let wanted = told("BENCH_RECORDS").parse().expect("BENCH_RECORDS is a number");
        Job { topic: told("BENCH_TOPIC"), wanted, taken: 0, began: None }
    }

    /// Note that so many records came; true when these were the last.
    pub fn take(&mut self, records: u64) -> bool {
        self.began.get_or_insert_with(|| (Instant::now(), cpu_seconds()));
        self.taken += records;
        self.taken >= self.wanted
    }

    /// Tell how long it took and what was counted, as one line of JSON.
    pub fn done(&self, cells: &Cells) {
        let (began, cpu) = self.began.expect("there were records");
        let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let records = self.taken;
        let sums = cells.sums();
        println!(r#"{{"records": {records}, "seconds": {seconds}, "cpu_seconds": {cpu}, "sums": {sums:?}}}"#);
    }
}

/// librdkafka's properties as orgstats has them, so that nobody is slower for the settings.
pub fn properties() -> Vec<(String, String)> {
    let lines = told("BENCH_PROPERTIES");
    let pairs = lines.lines().map(|line| line.split_once('=').expect("name=value"));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn told(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

fn cpu_seconds() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it is given a timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut now) };
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    org: u64,
    project: u64,
    bucket: u32,
    reason: u32,
    category: u8,
    outcome: u8,
}

/// What is counted of an event; what it does not say is as in the contract.
pub struct Event<'a> {
    pub second: u32,
    pub org: Option<u64>,
    pub project: Option<u64>,
    pub outcome: Option<u8>,
    pub reason: Option<&'a str>,
    pub category: Option<u8>,
    pub quantity: Option<u64>,
}

/// Quantity and events by key; each reason is kept once, so that a record needs no memory of its own.
#[derive(Default)]
pub struct Cells {
    cells: HashMap<Key, (u64, u64), RandomState>,
    reasons: HashMap<String, u32, RandomState>,
    lengths: Vec<u64>,
}

impl Cells {
    pub fn count(&mut self, event: &Event) {
        let reason = self.number(event.reason.unwrap_or(""));
        let key = Key {
            org: event.org.unwrap_or(0),
            project: event.project.unwrap_or(0),
            bucket: event.second / 10 * 10,
            reason,
            category: event.category.unwrap_or(1),
            outcome: event.outcome.unwrap_or(0),
        };
        let cell = self.cells.entry(key).or_default();
        cell.0 += event.quantity.unwrap_or(1);
        cell.1 += 1;
    }

    fn number(&mut self, reason: &str) -> u32 {
        if let Some(&number) = self.reasons.get(reason) {
            return number;
        }
        let number = self.lengths.len() as u32;
        self.lengths.push(reason.chars().count().min(64) as u64);
        self.reasons.insert(reason.to_owned(), number);
        number
    }

    /// Events, quantity, cells, and a sum in which each cell has a weight of its own.
    fn sums(&self) -> [u64; 4] {
        let mut sums = [0, 0, self.cells.len() as u64, 0u64];
        for (key, (quantity, events)) in &self.cells {
            let weight = key.org + 3 * (key.bucket as u64 / 10) + 5 * key.project;
            let rest = 7 * key.category as u64 + 11 * key.outcome as u64 + 13 * self.lengths[key.reason as usize];
            sums[0] += events;
            sums[1] += quantity;
            sums[3] = sums[3].wrapping_add(quantity.wrapping_mul((weight + rest) % 1_000_003));
        }
        sums
    }
}
