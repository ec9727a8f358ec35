//! The flink dialect: every shape of query that Dagger's documentation shows, as it is written there, over a stream with a
//! `rowtime` column.

use prost_reflect::prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};

use super::*;

const ORDERS: &str = r#"
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
message Item { int64 id = 1; int32 quantity = 2; string name = 3; }
message Place { double latitude = 1; double longitude = 2; }
message User { string y = 1; }
message Order {
  string order_number = 1; string service_type = 2; string status = 3; int64 customer_id = 4; double fare = 5;
  Place pickup = 6; repeated Item items = 7; map<string, string> metadata = 8; google.protobuf.Timestamp rowtime = 9;
  google.protobuf.Timestamp event_timestamp = 10; User user = 11; string value = 12; int32 http_status_code = 13;
}
"#;

const ROWS: [&str; 4] = [
    r#"order_number: "o1" service_type: "BIKE" status: "X" customer_id: 1 fare: 10 pickup { latitude: 1.5 longitude: 2 }
       items { id: 1 quantity: 2 name: "pen" } items { id: 2 quantity: 1 name: "ink" }
       metadata { key: "app" value: "ios" } rowtime { seconds: 60 } event_timestamp { seconds: 61 nanos: 5000000 }
       user { y: "ann" } value: "a,b" http_status_code: 200"#,
    r#"order_number: "o2" service_type: "CAR" status: "Y" customer_id: 2 fare: 20 pickup { latitude: 2.5 } user { y: "bob" }
       value: "c" http_status_code: 404 rowtime { seconds: 70 } event_timestamp { seconds: 71 }"#,
    r#"order_number: "o3" service_type: "BIKE" status: "X" customer_id: 1 fare: 30 pickup { latitude: 3.5 } user { y: "ann" }
       rowtime { seconds: 130 } event_timestamp { seconds: 131 }"#,
    // It moves the watermark on, so that the windows of the others are complete.
    r#"order_number: "o9" service_type: "NONE" status: "Z" customer_id: 9 rowtime { seconds: 100000 }"#,
];

impl Server {
    async fn orders(&self) {
        let proto = self.folder.path().join("shop.proto");
        std::fs::write(&proto, ORDERS).unwrap();
        let (brokers, proto) = (self.broker.bootstrap(), proto.display());
        for stream in ["booking", "payment"] {
            self.broker.create_topic(stream, 1).unwrap();
            self.run(&format!(
                "CREATE STREAM {stream} (WATERMARK FOR rowtime AS rowtime - INTERVAL '5' SECOND) WITH (connector = 'kafka', \
                 brokers = '{brokers}', topic = '{stream}', message = 'shop.Order', descriptor = '{proto}')"
            ))
            .await;
        }
        self.run("SET dialect = 'flink'").await;
    }

    fn order(&self) {
        let files = protox::compile([self.folder.path().join("shop.proto")], [self.folder.path()]).unwrap();
        let order = DescriptorPool::from_file_descriptor_set(files).unwrap().get_message_by_name("shop.Order").unwrap();
        let producer = Producer::new(self.broker.bootstrap()).unwrap();
        for topic in ["booking", "payment"] {
            for row in ROWS {
                let message = DynamicMessage::parse_text_format(order.clone(), row).unwrap();
                producer.send_value(topic, 0, &message.encode_to_vec()).unwrap();
            }
        }
        producer.flush(Duration::from_secs(10)).unwrap();
    }

    /// Waits until the view holds these rows, in any order, and perhaps more of order `o9`'s window.
    async fn holds(&self, view: &str, rows: &[&str]) {
        let begun = Instant::now();
        loop {
            let shown = self.run(&format!("SELECT * FROM {view}")).await;
            let mut found: Vec<String> = tables::values(&shown);
            found.retain(|row| !row.contains("1970-01-02") && !row.contains("NONE") && !row.contains("o9"));
            found.sort();
            let mut wanted = rows.to_vec();
            wanted.sort_unstable();
            if found == wanted {
                return;
            }
            if begun.elapsed() > PATIENCE {
                panic!("{view} never held {wanted:#?}:\n{shown}\n{}", self.run("SHOW JOBS").await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A name, the query, the rows of its view.
const SHAPES: &[(&str, &str, &[&str])] = &[
    (
        "projection",
        "SELECT order_number, service_type AS tag_service_id, status FROM `booking`",
        &["o1,BIKE,X", "o2,CAR,Y", "o3,BIKE,X"],
    ),
    (
        "tumbling",
        "SELECT count(1) AS c, TUMBLE_END(rowtime, INTERVAL '60' SECOND) AS window_timestamp FROM booking
         GROUP BY TUMBLE(rowtime, INTERVAL '60' SECOND)",
        &["2,1970-01-01T00:02:00", "1,1970-01-01T00:03:00"],
    ),
    (
        "tumbling_by_key",
        "SELECT service_type AS tag_service, SUM(fare) AS fares, Tumble_end(rowtime, INTERVAL '1' MINUTE) AS window_timestamp
         FROM booking GROUP BY Tumble (rowtime, INTERVAL '1' MINUTE), service_type",
        &["BIKE,10.0,1970-01-01T00:02:00", "CAR,20.0,1970-01-01T00:02:00", "BIKE,30.0,1970-01-01T00:03:00"],
    ),
    (
        "hopping",
        "SELECT service_type, COUNT(*) AS c, HOP_START(rowtime, INTERVAL '60' SECOND, INTERVAL '2' MINUTE) AS hop_start_time,
         HOP_END(rowtime, INTERVAL '60' SECOND, INTERVAL '2' MINUTE) AS window_timestamp FROM booking
         WHERE service_type = 'BIKE' GROUP BY HOP(rowtime, INTERVAL '60' SECOND, INTERVAL '2' MINUTE), service_type",
        &[
            "BIKE,1,1970-01-01T00:00:00,1970-01-01T00:02:00",
            "BIKE,2,1970-01-01T00:01:00,1970-01-01T00:03:00",
            "BIKE,1,1970-01-01T00:02:00,1970-01-01T00:04:00",
        ],
    ),
    (
        "sessions",
        "SELECT customer_id, COUNT(*) AS c, SESSION_START(rowtime, INTERVAL '75' SECOND) AS s,
         SESSION_END(rowtime, INTERVAL '75' SECOND) AS e FROM booking
         GROUP BY customer_id, SESSION(rowtime, INTERVAL '75' SECOND)",
        &["1,2,1970-01-01T00:01:00,1970-01-01T00:03:25", "2,1,1970-01-01T00:01:10,1970-01-01T00:02:25"],
    ),
    (
        "conditional_sums",
        "SELECT CAST(SUM(CASE WHEN status IN ('X') THEN 1 ELSE 0 END) AS FLOAT) AS x, COUNT(DISTINCT customer_id) AS customers,
         'MINUTE' AS granularity, CAST(MAX(http_status_code) AS BIGINT) AS code, LOWER(MAX(CAST(service_type AS VARCHAR(20)))) AS s,
         TUMBLE_END(rowtime, INTERVAL '2' MINUTE) AS window_timestamp
         FROM booking GROUP BY TUMBLE(rowtime, INTERVAL '2' MINUTE)",
        &["1.0,2,MINUTE,404,car,1970-01-01T00:02:00", "1.0,1,MINUTE,0,bike,1970-01-01T00:04:00"],
    ),
    (
        "outer_filter",
        "SELECT * FROM (SELECT service_type, COUNT(1) AS num_orders, TUMBLE_START(rowtime, INTERVAL '5' MINUTE) AS window_start
         FROM booking GROUP BY TUMBLE(rowtime, INTERVAL '5' MINUTE), service_type) WHERE num_orders > 1",
        &["BIKE,2,1970-01-01T00:00:00"],
    ),
    (
        "window_over_window",
        "SELECT SUM(c) AS total, COUNT(*) AS windows, TUMBLE_END(rt, INTERVAL '5' MINUTE) AS window_end FROM (
           SELECT COUNT(1) AS c, TUMBLE_START(rowtime, INTERVAL '1' MINUTE) AS window_start,
                  TUMBLE_ROWTIME(rowtime, INTERVAL '1' MINUTE) AS rt
           FROM booking GROUP BY TUMBLE(rowtime, INTERVAL '1' MINUTE)
         ) GROUP BY TUMBLE(rt, INTERVAL '5' MINUTE)",
        &["3,2,1970-01-01T00:05:00"],
    ),
    (
        "ctes",
        "WITH bikes AS (SELECT customer_id, fare, rowtime FROM booking WHERE service_type = 'BIKE'),
              fares AS (SELECT SUM(fare) AS fares, TUMBLE_END(rowtime, INTERVAL '1' HOUR) AS e FROM bikes
                        GROUP BY TUMBLE(rowtime, INTERVAL '1' HOUR))
         SELECT fares, e FROM fares",
        &["40.0,1970-01-01T01:00:00"],
    ),
    (
        "interval_join",
        "SELECT b.service_type, COUNT(*) AS c, TUMBLE_END(b.rowtime, INTERVAL '1' HOUR) AS window_timestamp
         FROM booking AS b JOIN payment AS p ON b.customer_id = p.customer_id
          AND p.rowtime BETWEEN b.rowtime AND b.rowtime + INTERVAL '5' MINUTE
         GROUP BY TUMBLE(b.rowtime, INTERVAL '1' HOUR), b.service_type",
        &["BIKE,3,1970-01-01T01:00:00", "CAR,1,1970-01-01T01:00:00"],
    ),
    (
        "join_on_time_alone",
        "SELECT b.order_number, p.order_number AS paid FROM booking AS b JOIN payment AS p
          ON p.rowtime BETWEEN b.rowtime - INTERVAL '15' SECOND AND b.rowtime + INTERVAL '15' SECOND",
        &["o1,o1", "o1,o2", "o2,o1", "o2,o2", "o3,o3"],
    ),
    (
        "left_join",
        "SELECT b.order_number, p.order_number AS paid FROM booking AS b LEFT JOIN payment AS p
          ON b.order_number = p.order_number AND p.fare > 15
          AND p.rowtime BETWEEN b.rowtime AND b.rowtime + INTERVAL '1' MINUTE",
        &["o1,", "o2,o2", "o3,o3"],
    ),
    (
        "union_with_fillers",
        "SELECT order_number, service_type FROM booking UNION ALL SELECT order_number, '' AS service_type FROM payment",
        &["o1,BIKE", "o2,CAR", "o3,BIKE", "o1,", "o2,", "o3,"],
    ),
    (
        "unnest_items",
        "SELECT order_number, items.id, quantity, name FROM booking, UNNEST(booking.items) AS items (id, quantity, name)",
        &["o1,1,2,pen", "o1,2,1,ink"],
    ),
    (
        "unnest_map",
        "SELECT order_number, `key`, m.`value` FROM booking AS b CROSS JOIN UNNEST(b.metadata) AS m (`key`, `value`)",
        &["o1,app,ios"],
    ),
    (
        "table_function",
        "SELECT order_number, T.part FROM booking AS b, LATERAL TABLE(string_to_array(b.`value`, ',')) AS T(part)",
        &["o1,a", "o1,b", "o2,c"],
    ),
    (
        "table_function_windowed",
        "SELECT T.part, COUNT(*) AS c, TUMBLE_END(b.rowtime, INTERVAL '1' HOUR) AS e
         FROM booking AS b, LATERAL TABLE(string_to_array(b.`value`, ',')) AS T(part)
         GROUP BY T.part, TUMBLE(b.rowtime, INTERVAL '1' HOUR)",
        &["a,1,1970-01-01T01:00:00", "b,1,1970-01-01T01:00:00", "c,1,1970-01-01T01:00:00"],
    ),
    (
        "functions_in_group_by",
        "SELECT CONCAT(service_type, status) AS tag, COUNT(*) AS c, TUMBLE_END(rowtime, INTERVAL '1' HOUR) AS e FROM booking
         WHERE CHAR_LENGTH(service_type) > 2 AND CARDINALITY(items) >= 0
         GROUP BY TUMBLE(rowtime, INTERVAL '1' HOUR), CONCAT(service_type, status)",
        &["BIKEX,2,1970-01-01T01:00:00", "CARY,1,1970-01-01T01:00:00"],
    ),
    (
        "longbow_aliases",
        "SELECT CONCAT('k', order_number) AS longbow_key, CAST(fare AS VARCHAR) AS longbow_data1, '30d' AS longbow_duration,
         rowtime AS rowtime FROM booking",
        &[
            "ko1,10.0,30d,1970-01-01T00:01:00",
            "ko2,20.0,30d,1970-01-01T00:01:10",
            "ko3,30.0,30d,1970-01-01T00:02:10",
        ],
    ),
    (
        "nested_names",
        "SELECT event_timestamp.seconds, event_timestamp.nanos, pickup.latitude, b.`user`.y, `value` AS v FROM booking AS b
         WHERE b.fare > 0",
        &["61,5000000,1.5,ann,a,b", "71,0,2.5,bob,c", "131,0,3.5,ann,"],
    ),
    (
        "time_as_text",
        "SELECT COUNT(*) AS c, CAST(TUMBLE_START(rowtime, INTERVAL '1' HOUR) AS VARCHAR) AS started,
         TUMBLE_END(rowtime, INTERVAL '1' HOUR) AS window_timestamp FROM booking GROUP BY TUMBLE(rowtime, INTERVAL '1' HOUR)",
        &["3,1970-01-01T00:00:00,1970-01-01T01:00:00"],
    ),
    (
        "window_function",
        "SELECT window_time, service_type, COUNT(*) AS c
         FROM TABLE(TUMBLE(TABLE booking, DESCRIPTOR(rowtime), INTERVAL '1' HOURS)) AS w
         GROUP BY window_start, window_end, window_time, service_type",
        &["1970-01-01T00:59:59.999,BIKE,2", "1970-01-01T00:59:59.999,CAR,1"],
    ),
    (
        "top_n",
        "SELECT order_number, fare FROM (
           SELECT *, ROW_NUMBER() OVER (PARTITION BY service_type ORDER BY fare DESC) AS n FROM booking) WHERE n = 1",
        &["o3,30.0", "o2,20.0"],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daggers_queries_run_as_they_are_written() {
    let server = Server::start(2);
    server.orders().await;
    for (name, query, _) in SHAPES {
        server.run(&format!("CREATE MATERIALIZED VIEW {name} AS {query}")).await;
    }
    server.order();
    for (name, _, rows) in SHAPES {
        server.holds(name, rows).await;
    }
    // As a snapshot the same text reads the stream once.
    let (_, query, rows) = SHAPES[1];
    let mut shown = tables::values(&server.run(&format!("{query} ORDER BY 2 LIMIT 2")).await);
    shown.sort();
    let mut wanted = rows.to_vec();
    wanted.sort_unstable();
    assert_eq!(shown, wanted);
    server.engine.shutdown();
}

/// A restart reads each definition in the dialect in which it was made, whatever sessions have set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dialect_is_kept_with_a_definition() {
    let server = Server::start(1);
    server.orders().await;
    let query = "SELECT COUNT(*) AS `Bookings`, TUMBLE_END(rowtime, INTERVAL '1' HOUR) AS e FROM `booking` \
                 GROUP BY TUMBLE(rowtime, INTERVAL '1' HOUR)";
    server.run(&format!("CREATE MATERIALIZED VIEW hourly AS {query}")).await;
    server.run("CREATE VIEW plain AS SELECT order_number, `user`.y AS userName FROM `booking`").await;
    server.order();
    server.holds("hourly", &["3,1970-01-01T01:00:00"]).await;
    let server = server.restarted();
    assert!(server.try_run(query).await.is_err(), "a new session reads PostgreSQL's dialect");
    server.holds("hourly", &["3,1970-01-01T01:00:00"]).await;
    let shown = server.run("SELECT \"Bookings\" FROM hourly").await;
    assert!(shown.contains("Bookings"), "{shown}");
    server.holds("plain", &["o1,ann", "o2,bob", "o3,ann"]).await;
    assert!(server.run("SELECT \"userName\" FROM plain").await.contains("bob"));
    // The same in one text, as a file has it.
    let shown = server.run(&format!("SET dialect = 'flink'; {query}")).await;
    assert!(shown.contains("| 3        | 1970-01-01T01:00:00 |"), "{shown}");
    let error = server.try_run("SET dialect = 'oracle'").await.unwrap_err();
    assert_eq!(error.hint(), Some("it can be postgres or flink"));
    server.engine.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_have_their_place() {
    let server = Server::start(1);
    server.orders().await;
    for (query, sentence, column) in [
        (
            "SELECT COUNT(*), TUMBLE_END(rowtime, INTERVAL '2' HOUR) FROM booking GROUP BY TUMBLE(rowtime, INTERVAL '1' HOUR)",
            "is of no window in this GROUP BY",
            18,
        ),
        ("SELECT COUNT(*) FROM booking GROUP BY TUMBLE(fare, INTERVAL '1' HOUR)", "is no timestamp", 39),
        ("SELECT COUNT(*) FROM booking GROUP BY TUMBLE(rowtim, INTERVAL '1' HOUR)", "there is no column rowtim", 46),
        ("SELECT COUNT(*) FROM booking GROUP BY TUMBLE(rowtime, INTERVAL '0' HOUR)", "greater than zero", 39),
        ("SELECT order_numbe FROM booking", "there is no column order_numbe", 8),
    ] {
        let error = server.try_run(query).await.unwrap_err();
        assert!(error.message().contains(sentence), "{query}: {error}");
        assert_eq!(error.position().map(|at| at.column), Some(column), "{query}: {error}");
    }
    server.engine.shutdown();
}
