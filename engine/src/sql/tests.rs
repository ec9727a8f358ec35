use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect};

use super::*;
use crate::error::ErrorKind;

/// What the statement prints, which must read back as the same.
fn printed(text: &str) -> String {
    let parsed = parse_one(text).unwrap_or_else(|error| panic!("{text}: {error} {:?}", error.position()));
    let printed = parsed.to_string();
    let again = parse_one(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
    assert_eq!(again.to_string(), printed);
    assert_eq!(again.statement.tag(), parsed.statement.tag());
    printed
}

/// The sentence of a text that is not read, and its line and column.
fn mistake(text: &str) -> (String, u64, u64) {
    let error = parse(text).expect_err(text);
    let position = error.position().unwrap_or_else(|| panic!("no position: {error}"));
    (error.message().to_owned(), position.line, position.column)
}

#[test]
fn streams() {
    assert_eq!(
        printed(
            "create stream if not exists Bookings (watermark for event_timestamp as event_timestamp - interval '10' second)
             with (connector = 'kafka', \"kafka.client.id\" = 'it''s', kafka.linger = 5, idle = -1, fast = true)"
        ),
        "CREATE STREAM IF NOT EXISTS bookings (WATERMARK FOR event_timestamp AS event_timestamp - INTERVAL '10' SECOND) \
         WITH (\"connector\" = 'kafka', \"kafka.client.id\" = 'it''s', \"kafka.linger\" = '5', idle = '-1', fast = 'true')"
    );
    assert_eq!(
        printed("CREATE STREAM \"Odd Name\" (a BIGINT NOT NULL, b TEXT, WATERMARK FOR a AS a) WITH ()"),
        "CREATE STREAM \"Odd Name\" (a BIGINT NOT NULL, b TEXT, WATERMARK FOR a AS a)"
    );
    assert_eq!(printed("CREATE STREAM public.s (watermark INT)"), "CREATE STREAM s (watermark INT)");
}

#[test]
fn options_are_found_by_name() {
    let Statement::CreateStream(create) =
        parse_one("CREATE STREAM s WITH (Topic = 'a', \"kafka.X\" = 'b')").unwrap().statement
    else {
        panic!("a stream");
    };
    assert_eq!(create.options.get("topic"), Some("a"));
    assert_eq!(create.options.get("kafka.X"), Some("b"));
    assert_eq!(create.options.get("kafka.x"), None);
    let (sentence, line, column) = mistake("CREATE STREAM s WITH (a = 1,\n a = 2)");
    assert_eq!((sentence.as_str(), line, column), ("the option a is given twice", 2, 2));
}

#[test]
fn views_and_sinks() {
    assert_eq!(
        printed("create materialized view v (a, \"B\") as select 1, 2 from t emit after watermark"),
        "CREATE MATERIALIZED VIEW v (a, \"B\") AS SELECT 1, 2 FROM t EMIT AFTER WATERMARK"
    );
    assert_eq!(printed("CREATE VIEW v AS SELECT * FROM t"), "CREATE VIEW v AS SELECT * FROM t");
    assert_eq!(
        printed("CREATE SINK out WITH (topic = 'x') AS WITH c AS (SELECT 1) SELECT * FROM c"),
        "CREATE SINK \"out\" WITH (topic = 'x') AS WITH c AS (SELECT 1) SELECT * FROM c"
    );
    assert_eq!(printed("CREATE SINK s (a INT) WITH (topic = 'x')"), "CREATE SINK s (a INT) WITH (topic = 'x')");
    assert_eq!(printed("INSERT INTO s SELECT 1"), "INSERT INTO s SELECT 1");
    assert_eq!(printed("INSERT INTO s (a, b) (SELECT 1, 2)"), "INSERT INTO s (a, b) (SELECT 1, 2)");
    assert_eq!(printed("INSERT INTO s VALUES (1)"), "INSERT INTO s VALUES (1)");
}

#[test]
fn everything_else() {
    for (text, expected) in [
        ("drop materialized view if exists a, b cascade", "DROP MATERIALIZED VIEW IF EXISTS a, b CASCADE"),
        ("DROP STREAM s RESTRICT", "DROP STREAM s"),
        ("DROP JOB j", "DROP JOB j"),
        ("subscribe to v", "SUBSCRIBE TO v"),
        ("subscribe v", "SUBSCRIBE TO v"),
        ("SUBSCRIBE (SELECT 1 EMIT STREAM)", "SUBSCRIBE (SELECT 1 EMIT STREAM)"),
        ("copy (subscribe to v) to stdout", "COPY (SUBSCRIBE TO v) TO STDOUT"),
        ("COPY (SELECT 1) TO STDOUT", "COPY (SELECT 1) TO STDOUT"),
        ("COPY v TO STDOUT", "COPY (SELECT * FROM v) TO STDOUT"),
        ("explain select 1 emit after watermark", "EXPLAIN SELECT 1 EMIT AFTER WATERMARK"),
        ("EXPLAIN CREATE VIEW v AS SELECT 1", "EXPLAIN CREATE VIEW v AS SELECT 1"),
        ("show streams", "SHOW STREAMS"),
        ("SHOW ALL", "SHOW ALL"),
        ("SHOW TIME ZONE", "SHOW timezone"),
        ("SHOW TRANSACTION ISOLATION LEVEL", "SHOW \"transaction_isolation\""),
        ("SET client_encoding = 'UTF8'", "SET client_encoding TO 'UTF8'"),
        ("SET LOCAL search_path TO a, \"B\"", "SET LOCAL \"search_path\" TO 'a', 'B'"),
        ("SET TIME ZONE 'UTC'", "SET timezone TO 'UTC'"),
        ("SET x.y = -1.5", "SET x.y TO '-1.5'"),
        ("SET a TO DEFAULT", "SET a TO DEFAULT"),
        ("RESET ALL", "RESET ALL"),
        ("RESET a.b", "RESET a.b"),
        ("ALTER JOB j STOP", "ALTER JOB j STOP"),
        ("ALTER JOB \"J\" start", "ALTER JOB \"J\" START"),
        ("FLUSH", "FLUSH"),
        ("checkpoint", "CHECKPOINT"),
        ("CHECKPOINT job \"Odd\"", "CHECKPOINT JOB \"Odd\""),
        ("show checkpoints", "SHOW CHECKPOINTS"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN"),
        ("START TRANSACTION READ ONLY", "BEGIN"),
        ("END", "COMMIT"),
        ("ABORT", "ROLLBACK"),
        ("DISCARD ALL", "DISCARD ALL"),
        ("(SELECT 1)", "(SELECT 1)"),
        ("VALUES (1, 'a')", "VALUES (1, 'a')"),
    ] {
        let printed = printed(text);
        assert_eq!(printed.replace('"', ""), expected.replace('"', ""), "{text}");
    }
}

#[test]
fn emit() {
    for text in [
        "SELECT a FROM t EMIT STREAM",
        "SELECT a FROM t EMIT AFTER WATERMARK",
        "SELECT a FROM t EMIT STREAM AFTER DELAY INTERVAL '5' SECOND AND AFTER 100 ROWS AND AFTER WATERMARK \
         ALLOWED LATENESS INTERVAL '1 hour' RETRACTING",
        "SELECT a FROM t AS x EMIT ACCUMULATING",
        "SELECT a EMIT DISCARDING",
        "SELECT a FROM t WHERE a > 1 GROUP BY a ORDER BY a LIMIT 3 EMIT AFTER 1 ROWS",
        "SELECT a FROM (SELECT 1 AS a) EMIT AFTER WATERMARK",
        "SELECT a FROM t JOIN u ON t.a = u.a EMIT AFTER WATERMARK",
        "SELECT a FROM t UNION ALL SELECT a FROM u EMIT AFTER WATERMARK",
    ] {
        assert_eq!(printed(text), text);
        let Statement::Query(query) = parse_one(text).unwrap().statement else { panic!("a query") };
        assert!(query.emit.is_some(), "{text}");
    }
    assert_eq!(printed("SELECT a AS emit FROM t \"emit\""), "SELECT a AS emit FROM t \"emit\"");
    let clause = |text: &str| *parse_query(text).unwrap().emit.unwrap();
    assert_eq!(clause("SELECT 1 EMIT AFTER WATERMARK").triggers, [Trigger::AfterWatermark]);
    assert!(clause("SELECT 1 EMIT STREAM AFTER WATERMARK").stream);
}

#[test]
fn windows() {
    for (text, expected) in [
        (
            "SELECT * FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)",
            "SELECT * FROM TUMBLE((SELECT * FROM t), DESCRIPTOR(ts), INTERVAL '1' MINUTE)",
        ),
        (
            "SELECT * FROM TABLE(HOP(TABLE public.t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '2' MINUTE)) w",
            "SELECT * FROM TABLE(HOP((SELECT * FROM public.t), DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '2' MINUTE)) w",
        ),
        (
            "SELECT * FROM TUMBLE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' MINUTE)",
            "SELECT * FROM TUMBLE(DATA => (SELECT * FROM t), TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' MINUTE)",
        ),
    ] {
        assert_eq!(printed(text), expected);
    }
    // `table` as a name of something else stays a name.
    assert!(parse_one("SELECT \"table\" FROM t").is_ok());
}

#[test]
fn several_statements_keep_their_text() {
    let text = "SELECT 'é;' ;\n\n ;  CREATE VIEW v AS\n  SELECT 1 -- why\n;SHOW JOBS";
    let statements = parse(text).unwrap();
    let texts: Vec<&str> = statements.iter().map(|statement| statement.text.as_str()).collect();
    assert_eq!(texts, ["SELECT 'é;'", "CREATE VIEW v AS\n  SELECT 1", "SHOW JOBS"]);
    for statement in &statements {
        assert_eq!(&text[statement.range.clone()], statement.text);
    }
    assert_eq!(statements[1].position, crate::error::Position { line: 3, column: 5 });
    assert!(parse("  ; -- nothing\n").unwrap().is_empty());
}

#[test]
fn mistakes_have_places() {
    assert_eq!(mistake("SELECT a\n  FROM t WHERE )").1, 2);
    let (sentence, line, column) = mistake("SELECT 1;\nCREATE STREAM s (a INT,\n  WATERMARK FOR a a) WITH ()");
    assert_eq!((sentence.as_str(), line, column), ("expected AS, found a", 3, 19));
    let (sentence, line, column) = mistake("CREATE SINK s WITH (topic = )");
    assert_eq!((sentence.as_str(), line, column), ("expected a string, a number or a word, found )", 1, 29));
    let (sentence, line, column) = mistake("SUBSCRIBE TO");
    assert_eq!((sentence.as_str(), line, column), ("expected identifier, found the end", 1, 13));
    let (sentence, line, column) = mistake("SELECT 1 EMIT FOO");
    assert_eq!(
        (sentence.as_str(), line, column),
        ("expected STREAM, AFTER, ALLOWED LATENESS, a mode or LATE ROWS after EMIT, found FOO", 1, 15)
    );
    assert_eq!(mistake("SELECT 'abc").1, 1);
    let (sentence, ..) = mistake("SHOW JOBS now");
    assert_eq!(sentence, "the statement should end before now");
    let (sentence, ..) = mistake("CREATE STREAM s (WATERMARK FOR a AS a, WATERMARK FOR b AS b)");
    assert_eq!(sentence, "a stream has one WATERMARK clause, and this is a second");
    let (sentence, ..) = mistake("CREATE STREAM other.s");
    assert_eq!(sentence, "the name other.s has a schema, and there is only the schema public");
    let (sentence, ..) = mistake("ALTER JOB j PAUSE");
    assert_eq!(sentence, "expected STOP, START, SET or RESET, found PAUSE");
}

#[test]
fn what_is_known_but_not_run_says_so() {
    for text in
        ["CREATE OR REPLACE VIEW v AS SELECT 1", "COPY t FROM STDIN", "EXPLAIN ANALYZE SELECT 1", "EXPLAIN FLUSH"]
    {
        let error = parse(text).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::NotSupported, "{text}: {error}");
        assert!(error.hint().is_some(), "{text}");
    }
}

#[test]
fn deep_nesting_is_an_error_and_quick() {
    let deep = format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500));
    assert_eq!(parse(&deep).expect_err("too deep").kind(), ErrorKind::Syntax);
    // Function arguments are read once per level, not twice.
    let calls = format!("SELECT {}1{}", "f(".repeat(24), ")".repeat(24));
    assert!(parse(&calls).is_ok());
}

#[test]
fn expressions() {
    assert_eq!(parse_expression("a - INTERVAL '5' SECOND").unwrap().to_string(), "a - INTERVAL '5' SECOND");
    assert!(parse_expression("a b").is_err());
}

/// The parser's own rule takes all that follows for the right side.
#[test]
fn distinct_from_binds_as_is_does() {
    for (text, means) in [
        ("a IS NOT DISTINCT FROM b AND c", "(a IS NOT DISTINCT FROM b) AND c"),
        (
            "a IS DISTINCT FROM b + 1 OR NOT c IS DISTINCT FROM d",
            "(a IS DISTINCT FROM (b + 1)) OR (NOT (c IS DISTINCT FROM d))",
        ),
        ("a = b IS DISTINCT FROM c", "(a = b) IS DISTINCT FROM c"),
    ] {
        assert_eq!(depths(text), depths(means), "{text}");
    }
}

/// The operators of an expression, from the outermost.
fn depths(text: &str) -> Vec<&'static str> {
    fn visit(expr: &Expr, found: &mut Vec<&'static str>) {
        match expr {
            Expr::Nested(inner) => visit(inner, found),
            Expr::UnaryOp { expr, .. } => {
                found.push("unary");
                visit(expr, found);
            }
            Expr::BinaryOp { left, right, .. } => {
                found.push("binary");
                visit(left, found);
                visit(right, found);
            }
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                found.push("distinct");
                visit(left, found);
                visit(right, found);
            }
            _ => found.push("leaf"),
        }
    }
    let mut found = Vec::new();
    visit(&parse_expression(text).unwrap(), &mut found);
    found
}

/// Every yes-or-no question of the dialect is answered as PostgreSQL's answers it, but for two.
#[test]
fn dialect() {
    macro_rules! same {
        ($($question:ident)*) => {
            $(assert_eq!(
                RondelDialect::default().$question(),
                PostgreSqlDialect {}.$question(),
                stringify!($question)
            );)*
        };
    }
    same! {
        allow_extract_custom allow_extract_single_quotes convert_type_before_value describe_requires_table_keyword
        ignores_wildcard_escapes require_interval_qualifier requires_single_line_comment_whitespace
        support_map_literal_syntax supports_alter_column_type_using supports_array_join_syntax
        supports_array_typedef_with_brackets supports_array_typedef_without_element_type
        supports_asc_desc_in_column_definition supports_bang_not_operator supports_binary_kw_as_cast
        supports_bitwise_shift_operators supports_boolean_literals supports_column_definition_trailing_commas
        supports_comma_separated_drop_column_list supports_comma_separated_set_assignments
        supports_comma_separated_trim supports_comment_on supports_comment_optimizer_hint supports_connect_by
        supports_constraint_keyword_without_name supports_create_index_with_clause
        supports_create_table_like_parenthesized supports_create_table_multi_schema_info_sources
        supports_create_table_select supports_create_table_using supports_create_view_comment_syntax
        supports_cross_join_constraint supports_cte_without_as supports_data_type_signed_suffix supports_detach
        supports_dictionary_syntax supports_dollar_as_money_prefix supports_dollar_placeholder
        supports_double_ampersand_operator supports_empty_projections supports_end_transaction_modifier
        supports_eq_alias_assignment supports_execute_immediate supports_explain_with_utility_options
        supports_extract_comma_syntax supports_factorial_operator supports_filter_during_aggregation
        supports_from_first_insert supports_from_first_select supports_from_trailing_commas
        supports_geometric_types supports_group_by_expr supports_group_by_with_modifier supports_in_empty_list
        supports_insert_format supports_insert_set supports_insert_table_alias supports_insert_table_function
        supports_insert_table_query supports_install supports_interpolate supports_interval_options
        supports_key_column_option supports_lambda_functions supports_left_associative_joins_without_parens
        supports_limit_by supports_limit_comma supports_listen_notify supports_load_data supports_load_extension
        supports_long_type_as_bigint supports_map_literal_with_angle_brackets supports_match_against
        supports_multiline_comment_hints supports_named_fn_args_with_assignment_operator
        supports_named_fn_args_with_colon_operator supports_named_fn_args_with_eq_operator
        supports_named_fn_args_with_rarrow_operator supports_nested_comments supports_notnull_operator
        supports_numeric_literal_underscores supports_numeric_prefix supports_object_name_double_dot_notation
        supports_optimize_table supports_order_by_all supports_outer_join_operator
        supports_parens_around_table_factor supports_parenthesized_set_variables supports_partiql
        supports_partition_by_after_order_by supports_pipe_operator supports_prewhere
        supports_projection_trailing_commas supports_quote_delimited_string supports_select_exclude
        supports_select_expr_star supports_select_format supports_select_item_multi_column_alias
        supports_select_modifiers supports_select_wildcard_except supports_select_wildcard_exclude
        supports_select_wildcard_ilike supports_select_wildcard_rename supports_select_wildcard_replace
        supports_select_wildcard_with_alias supports_semantic_view_table_factor supports_set_names
        supports_set_stmt_without_operator supports_settings supports_show_like_before_in
        supports_space_separated_column_options supports_start_transaction_modifier supports_string_escape_constant
        supports_string_literal_backslash_escape supports_string_literal_concatenation
        supports_string_literal_concatenation_with_newline supports_struct_literal
        supports_subquery_as_function_arg supports_table_hints supports_table_sample_before_alias
        supports_top_before_distinct supports_trailing_commas
        supports_triple_quoted_string supports_try_convert supports_unicode_string_literal supports_update_order_by
        supports_user_host_grantee supports_values_as_table_factor supports_window_clause_named_window_reference
        supports_window_function_null_treatment_arg supports_with_fill supports_within_after_array_aggregation
        supports_xml_expressions
    }
    assert!(!RondelDialect::default().supports_named_fn_args_with_expr_name());
    assert!(RondelDialect::default().supports_table_versioning());
    assert!(RondelDialect::default().supports_match_recognize());
    for character in ('\0'..='\u{2ff}').chain(['"', '`', '世', '🙂']) {
        assert_eq!(
            RondelDialect::default().is_identifier_start(character),
            PostgreSqlDialect {}.is_identifier_start(character)
        );
        assert_eq!(
            RondelDialect::default().is_identifier_part(character),
            PostgreSqlDialect {}.is_identifier_part(character)
        );
        assert_eq!(
            RondelDialect::default().is_custom_operator_part(character),
            PostgreSqlDialect {}.is_custom_operator_part(character)
        );
        assert_eq!(
            RondelDialect::default().is_delimited_identifier_start(character),
            PostgreSqlDialect {}.is_delimited_identifier_start(character)
        );
    }
    let dialect: &dyn Dialect = &RondelDialect::default();
    assert!(dialect.is::<PostgreSqlDialect>());
}
