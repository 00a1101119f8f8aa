//! As fast as we can make it: librdkafka's batches, sonic-rs with borrowed fields, no memory asked for per record.

use std::ffi::CString;
use std::ptr;

use other_consumers::{properties, Cells, Event, Job};
use rdkafka::bindings::*;
use serde::Deserialize;

const MOST: usize = 10_000;

#[derive(Deserialize)]
struct Outcome<'a> {
    timestamp: &'a str,
    org_id: Option<u64>,
    project_id: Option<u64>,
    outcome: Option<u8>,
    #[serde(borrow)]
    reason: Option<&'a str>,
    category: Option<u8>,
    quantity: Option<u64>,
}

/// Seconds since the epoch of a time as Relay spells it, in UTC; None for another one.
fn second(text: &str) -> Option<u32> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || bytes[10] != b'T' || bytes[bytes.len() - 1] != b'Z' {
        return None;
    }
    let two = |at: usize| (bytes[at] - b'0') as u32 * 10 + (bytes[at + 1] - b'0') as u32;
    let (month, day) = (two(5), two(8));
    let year = two(0) * 100 + two(2) - (month <= 2) as u32;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    Some(days * 86_400 + two(11) * 3_600 + two(14) * 60 + two(17))
}

fn count(value: &[u8], cells: &mut Cells) {
    let Ok(outcome) = sonic_rs::from_slice::<Outcome>(value) else { return };
    let Some(second) = second(outcome.timestamp) else { return };
    cells.count(&Event {
        second,
        org: outcome.org_id,
        project: outcome.project_id,
        outcome: outcome.outcome,
        reason: outcome.reason,
        category: outcome.category,
        quantity: outcome.quantity,
    });
}

/// A queue of records of the topic, read in a group.
unsafe fn subscribe(topic: &str) -> *mut rd_kafka_queue_t {
    let mut why = [0; 512];
    let conf = rd_kafka_conf_new();
    for (name, value) in properties() {
        let (name, value) = (CString::new(name).unwrap(), CString::new(value).unwrap());
        let set = rd_kafka_conf_set(conf, name.as_ptr(), value.as_ptr(), why.as_mut_ptr(), why.len());
        assert!(set == rd_kafka_conf_res_t::RD_KAFKA_CONF_OK, "{name:?} is refused");
    }
    let client = rd_kafka_new(rd_kafka_type_t::RD_KAFKA_CONSUMER, conf, why.as_mut_ptr(), why.len());
    assert!(!client.is_null());
    rd_kafka_poll_set_consumer(client);
    let topics = rd_kafka_topic_partition_list_new(1);
    let topic = CString::new(topic).unwrap();
    rd_kafka_topic_partition_list_add(topics, topic.as_ptr(), -1);
    assert!(rd_kafka_subscribe(client, topics) == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_queue_get_consumer(client)
}

fn main() {
    let mut job = Job::new();
    let mut cells = Cells::default();
    let mut messages = vec![ptr::null_mut(); MOST];
    // SAFETY: messages are looked at before they are given back, and none is kept.
    unsafe {
        let queue = subscribe(&job.topic);
        loop {
            let count_of = rd_kafka_consume_batch_queue(queue, 100, messages.as_mut_ptr(), MOST).max(0) as usize;
            let mut records = 0;
            if count_of > 0 {
                job.take(0);
            }
            for &message in &messages[..count_of] {
                let one = &*message;
                if one.err == rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    records += 1;
                    if !one.payload.is_null() {
                        count(std::slice::from_raw_parts(one.payload as *const u8, one.len), &mut cells);
                    }
                }
                rd_kafka_message_destroy(message);
            }
            if count_of > 0 && job.take(records) {
                break;
            }
        }
    }
    job.done(&cells);
}
