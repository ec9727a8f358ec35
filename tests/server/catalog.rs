//! The system tables, as psql's commands and drivers look into them.

use super::Server;
use super::psql::{printed, run};

#[tokio::test(flavor = "multi_thread")]
async fn psql_lists_relations_by_their_kind() {
    let server = Server::start();
    let all = printed(&server, &["-At", "-c", "\\d"]).await;
    let expected = "public|Odd Name|table|rondel\npublic|big_cities|view|rondel\npublic|bookings|table|rondel\n\
                    public|cities|table|rondel\npublic|demand|materialized view|rondel\n";
    assert_eq!(all, expected);
    for (command, names) in [
        ("\\dt", "Odd Name bookings cities"),
        ("\\dv", "big_cities"),
        ("\\dm", "demand"),
        ("\\dt b*", "bookings"),
        ("\\dt+", "Odd Name bookings cities"),
    ] {
        let text = printed(&server, &["-At", "-c", command]).await;
        let found: Vec<&str> = text.lines().filter_map(|line| line.split('|').nth(1)).collect();
        assert_eq!(found.join(" "), names, "{command}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_describes_relations() {
    let server = Server::start();
    let text = printed(&server, &["-c", "\\d bookings"]).await;
    let expected = "                        Table \"public.bookings\"\n \
                    Column |            Type             | Collation | Nullable | Default \n\
                    --------+-----------------------------+-----------+----------+---------\n \
                    id     | bigint                      |           | not null | \n \
                    at     | timestamp without time zone |           |          | \n \
                    price  | numeric(10,2)               |           |          | \n \
                    tags   | text[]                      |           |          | \n\n";
    assert_eq!(text, expected);
    let text = printed(&server, &["-c", "\\d+ big_cities"]).await;
    assert!(
        text.contains("View \"public.big_cities\"") && text.contains("View definition:\nSELECT id FROM cities"),
        "{text}"
    );
    let text = printed(&server, &["-c", "\\d+ demand"]).await;
    assert!(text.contains("Materialized view \"public.demand\""), "{text}");
    let text = printed(&server, &["-c", "\\d \"Odd Name\""]).await;
    assert!(text.contains("Table \"public.Odd Name\""), "{text}");
    let output = run(&server, &["-c", "\\d nothing"]).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors, "Did not find any relation named \"nothing\".\n");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psqls_other_lists_are_answered() {
    let server = Server::start();
    let databases = printed(&server, &["-At", "-c", "\\l"]).await;
    assert!(databases.starts_with("rondel|rondel|UTF-8|C|C|"), "{databases}");
    assert_eq!(printed(&server, &["-At", "-c", "\\dn"]).await, "public|rondel\n");
    for command in [
        "\\d+", "\\l+", "\\dn+", "\\df", "\\du", "\\dT", "\\di", "\\ds", "\\dx", "\\dp", "\\db", "\\da", "\\dC",
        "\\do", "\\des", "\\dRp", "\\dO", "\\dOS", "\\dL", "\\drds", "\\ddp",
    ] {
        let errors = String::from_utf8(run(&server, &["-c", command]).await.stderr).unwrap();
        assert!(!errors.contains("ERROR"), "{command}: {errors}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn system_queries_of_drivers_and_tools_are_answered() {
    let server = Server::start();
    for (query, expected) in [
        ("SELECT current_user, session_user, current_database(), current_schema()", "ann|ann|rondel|public"),
        ("SELECT current_setting('timezone')", "UTC"),
        ("SELECT set_config('application_name', 'x', false)", "x"),
        ("SELECT 1 + 1", "2"),
        (
            "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1 LIMIT 2",
            "Odd Name|BASE TABLE\nbig_cities|VIEW",
        ),
        ("SELECT viewname, definition FROM pg_views", "big_cities|SELECT id FROM cities"),
        ("SELECT matviewname, definition FROM pg_matviews", "demand|SELECT name FROM cities"),
        ("SELECT oid, typname FROM pg_type WHERE typname IN ('int4', 'json') ORDER BY oid", "23|int4\n114|json"),
        (
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relname = 'cities' ORDER BY attnum",
            "id|bigint\nname|text",
        ),
        // What psql asks when the tabulator key is pressed after "FROM cit".
        (
            "SELECT c.relname, NULL::pg_catalog.text FROM pg_catalog.pg_class c WHERE (c.relname) LIKE 'cit%' \
             AND c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p') AND pg_catalog.pg_table_is_visible(c.oid) \
             AND c.relnamespace OPERATOR(pg_catalog.<>) (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pg_catalog') \
             UNION ALL SELECT NULL::pg_catalog.text, n.nspname FROM pg_catalog.pg_namespace n \
             WHERE n.nspname LIKE 'cit%' AND n.nspname NOT LIKE E'pg\\\\_%' LIMIT 1000",
            "cities|",
        ),
    ] {
        assert_eq!(printed(&server, &["-At", "-c", query]).await.trim_end(), expected, "{query}");
    }
    let output = run(&server, &["-c", "SELECT count(*) FROM pg_class, cities"]).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("\"cities\" can't be read together with system tables"), "{errors}");
    server.stop().await;
}
