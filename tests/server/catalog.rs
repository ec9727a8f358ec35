//! The system tables, as psql's commands and drivers look into them.

use super::Server;
use super::psql::run;

#[tokio::test(flavor = "multi_thread")]
async fn explore() {
    let server = Server::start();
    for command in [
        "\\d",
        "\\dt",
        "\\dv",
        "\\dm",
        "\\dS pg_class",
        "\\d cities",
        "\\d bookings",
        "\\d demand",
        "\\d+ big_cities",
        "\\d+ demand",
        "\\d \"Odd Name\"",
        "\\dt+",
        "\\d+",
        "\\l",
        "\\l+",
        "\\dn",
        "\\dn+",
        "\\df",
        "\\du",
        "\\dT",
        "\\di",
        "\\ds",
        "\\dx",
        "\\dp",
        "\\dd",
        "\\db",
        "\\da",
        "\\dC",
        "\\dD",
        "\\do",
        "\\dO",
        "\\des",
        "\\dew",
        "\\det",
        "\\dL",
        "\\dF",
        "\\drds",
        "\\dRp",
        "\\dy",
        "\\sv big_cities",
        "\\conninfo",
        "\\d nosuch",
        "select current_user, session_user, version(), current_database(), current_schema(), pg_backend_pid() > 0",
        "select table_name, table_type from information_schema.tables where table_schema = 'public' order by 1",
        "select column_name, data_type, is_nullable from information_schema.columns where table_name = 'bookings' order by ordinal_position",
        "select 'cities'::regclass::oid, 16384::regclass, to_regclass('cities')",
        "select current_setting('server_version'), set_config('a.b','c',false)",
        "select * from pg_views",
        "select * from pg_matviews",
        "select schemaname, tablename, tableowner from pg_tables",
        "select oid, typname from pg_type where typname in ('int4','text','json') order by oid",
        "select n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod) from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid where c.relname = 'bookings' and a.attnum > 0",
        "select 1 where exists (select 1 from pg_class c, cities x)",
        "show transaction isolation level",
        "SELECT c.relname, NULL::pg_catalog.text FROM pg_catalog.pg_class c WHERE (c.relname) LIKE 'cit%' AND c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p') AND pg_catalog.pg_table_is_visible(c.oid) AND c.relnamespace OPERATOR(pg_catalog.<>) (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pg_catalog') UNION ALL SELECT NULL::pg_catalog.text, n.nspname FROM pg_catalog.pg_namespace n WHERE n.nspname LIKE 'cit%' AND n.nspname NOT LIKE E'pg\\\\_%' LIMIT 1000",
        "select 1, 'a' || 'b', count(*), 5::int as x, current_setting('timezone') from pg_namespace",
    ] {
        let output = run(&server, &["-E", "-c", command]).await;
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        if err.is_empty() {
            let result = out.rsplit("**************************\n").next().unwrap();
            println!("=== OK {command}\n{}", result.chars().take(900).collect::<String>());
        } else {
            println!("=== FAIL {command}\n{}{err}", out);
        }
    }
    server.stop().await;
}
