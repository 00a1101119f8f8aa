//! Sentry's own Rust library, with serde, as one writes it: a task decodes and counts, offsets are committed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use other_consumers::{properties, Cells, Event, Job};
use sentry_arroyo::backends::kafka::config::KafkaConfig;
use sentry_arroyo::backends::kafka::types::KafkaPayload;
use sentry_arroyo::backends::kafka::InitialOffset;
use sentry_arroyo::processing::strategies::commit_offsets::CommitOffsets;
use sentry_arroyo::processing::strategies::run_task::RunTask;
use sentry_arroyo::processing::strategies::{ProcessingStrategy, ProcessingStrategyFactory};
use sentry_arroyo::processing::StreamProcessor;
use sentry_arroyo::types::{Message, Topic};
use serde::Deserialize;

#[derive(Deserialize)]
struct Outcome {
    timestamp: DateTime<Utc>,
    org_id: Option<u64>,
    project_id: Option<u64>,
    outcome: Option<u8>,
    reason: Option<String>,
    category: Option<u8>,
    quantity: Option<u64>,
}

type Work = (Job, Cells, bool);

struct Chain(Arc<Mutex<Work>>);

impl ProcessingStrategyFactory<KafkaPayload> for Chain {
    fn create(&self) -> Box<dyn ProcessingStrategy<KafkaPayload>> {
        let work = self.0.clone();
        let task = move |message: Message<KafkaPayload>| {
            let (job, cells, done) = &mut *work.lock().unwrap();
            job.take(0);
            if let Some(value) = message.payload().payload() {
                count(value, cells);
            }
            *done = job.take(1);
            Ok(message.replace(()))
        };
        Box::new(RunTask::new(task, CommitOffsets::new(Duration::from_secs(1))))
    }
}

fn count(value: &[u8], cells: &mut Cells) {
    let Ok(outcome) = serde_json::from_slice::<Outcome>(value) else { return };
    cells.count(&Event {
        second: outcome.timestamp.timestamp() as u32,
        org: outcome.org_id,
        project: outcome.project_id,
        outcome: outcome.outcome,
        reason: outcome.reason.as_deref(),
        category: outcome.category,
        quantity: outcome.quantity,
    });
}

fn main() {
    let job = Job::new();
    let topic = Topic::new(&job.topic);
    let own = properties().into_iter().collect();
    let config = KafkaConfig::new_consumer_config(
        vec![std::env::var("BENCH_BOOTSTRAP_SERVERS").unwrap()],
        std::env::var("BENCH_GROUP").unwrap(),
        InitialOffset::Earliest,
        false,
        300_000,
        Some(own),
    );
    let work = Arc::new(Mutex::new((job, Cells::default(), false)));
    let mut processor = StreamProcessor::with_kafka(config, Chain(work.clone()), topic, None);
    while !work.lock().unwrap().2 {
        processor.run_once().unwrap();
    }
    let (job, cells, _) = &*work.lock().unwrap();
    job.done(cells);
    std::process::exit(0); // what follows is leaving the group, which nobody measures
}
