use std::time::Duration;

use super::client::native_check;
use super::*;
use crate::connector::kafka::topics::Start;

fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn source(pairs: &[(&str, &str)]) -> Result<KafkaSourceOptions> {
    let mut values = values(pairs);
    values.insert("brokers".to_owned(), "127.0.0.1:1".to_owned());
    values.entry("topic".to_owned()).or_insert("rides".to_owned());
    KafkaSourceOptions::parse(&values, &[])
}

fn sink(pairs: &[(&str, &str)]) -> Result<KafkaSinkOptions> {
    let mut values = values(pairs);
    values.insert("brokers".to_owned(), "127.0.0.1:1".to_owned());
    values.insert("topic".to_owned(), "out".to_owned());
    KafkaSinkOptions::parse(&values, &[])
}

#[test]
fn defaults_of_a_source() {
    let options = source(&[]).unwrap();
    assert_eq!(options.start, Start::Earliest);
    assert_eq!(options.on_error, OnError::Fail);
    assert_eq!(options.idle_timeout, Duration::from_secs(30));
    assert!(options.metadata_fields().is_empty());
    let config = options.consumer_config();
    assert_eq!(config.get("isolation.level"), Some("read_committed"));
    assert_eq!(config.get("group.id"), None);
}

#[test]
fn what_is_fetched_ahead_is_bounded_by_what_the_job_may_hold() {
    let queued = |options: &[(&str, &str)], bytes: usize, workers: usize| {
        let config = source(options).unwrap().reading_config(bytes, workers);
        config.get("queued.max.messages.kbytes").unwrap().to_owned()
    };
    assert_eq!(queued(&[], 24 << 20, 2), "8192", "for each worker, and as much for what is on its way from the broker");
    assert_eq!(queued(&[], 1 << 20, 8), "1024", "there is a least");
    assert_eq!(queued(&[], usize::MAX, 1), "65536", "and a most");
    assert_eq!(queued(&[("kafka.queued.max.messages.kbytes", "512")], 24 << 20, 2), "512", "what is said counts");
}

#[test]
fn librdkafka_speaks_about_its_own_properties() {
    let unknown = source(&[("kafka.fetch.speed", "11")]).unwrap_err();
    assert!(unknown.message().contains("kafka.fetch.speed"), "{unknown}");
    assert!(unknown.message().contains("No such configuration property"), "{unknown}");
    let mistyped = source(&[("kafka.sasl.pasword", "abracadabra")]).unwrap_err();
    assert!(mistyped.message().contains("No such configuration property: \"sasl.pasword\""), "{mistyped}");
    assert!(!mistyped.message().contains("abracadabra"), "{mistyped}");
    let wrong = source(&[("kafka.fetch.wait.max.ms", "soon")]).unwrap_err();
    assert!(wrong.message().contains("kafka.fetch.wait.max.ms") && wrong.message().contains("soon"), "{wrong}");
    let ours = source(&[("kafka.group.id", "mine")]).unwrap_err();
    assert!(ours.message().contains("write the option \"group\""), "{ours}");
    let taken = source(&[("kafka.fetch.wait.max.ms", "77")]).unwrap();
    assert_eq!(taken.consumer_config().get("fetch.wait.max.ms"), Some("77"));
}

#[test]
fn options_that_need_each_other() {
    for (pairs, words) in [
        (&[("start", "committed")][..], "needs the option \"group\""),
        (&[("on_error", "dead_letter")], "needs the option \"dead_letter_topic\""),
        (&[("dead_letter_topic", "x")], "on_error is not 'dead_letter'"),
        (&[("metadata", "_offset,_size")], "cannot hold '_size'"),
        (&[("tpoic", "x")], "no option \"tpoic\""),
    ] {
        let error = source(pairs).unwrap_err();
        assert!(error.message().contains(words), "{error}");
    }
    for (pairs, words) in [
        (&[("changelog", "upsert")][..], "needs the option \"key\""),
        (&[("key_format", "json")], "\"key\" is missing"),
        (&[("key", "a,b"), ("key_format", "text")], "one column"),
        (&[("key", "a"), ("key_format", "protobuf")], "needs the option \"key_message\""),
        (&[("key", "a"), ("key_format", "json"), ("key_message", "K")], "goes with key_format = 'protobuf'"),
        (&[("kafka.linger.mss", "1")], "kafka.linger.mss"),
    ] {
        let error = sink(pairs).unwrap_err();
        assert!(error.message().contains(words), "{error}");
    }
}

#[test]
fn the_keys_format_follows_the_columns() {
    assert_eq!(sink(&[("key", "a")]).unwrap().key_format, KeyFormat::Text);
    assert_eq!(sink(&[("key", "a,b")]).unwrap().key_format, KeyFormat::Json);
    assert_eq!(sink(&[("key", "a"), ("key_message", "K")]).unwrap().key_format, KeyFormat::Protobuf("K".to_owned()));
}

#[test]
fn dead_letters_share_the_connection_only() {
    let options = source(&[
        ("on_error", "dead_letter"),
        ("dead_letter_topic", "bad"),
        ("kafka.fetch.wait.max.ms", "5"),
        ("kafka.security.protocol", "ssl"),
    ])
    .unwrap();
    let config = options.dead_letter_config();
    assert_eq!(config.get("security.protocol"), Some("ssl"));
    assert_eq!(config.get("fetch.wait.max.ms"), None);
    native_check(&config).unwrap();
}
