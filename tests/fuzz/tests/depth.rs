//! The deepest statement that is taken, on the stack that a thread has where nobody asked for more.

use std::sync::Arc;

use bigpeer_core::dql::{Bound, DEPTH_MAX, ObjectRow, Statement};
use bigpeer_core::value::canonical::encode_id;
use bigpeer_core::value::{Object, Value};

#[test]
fn the_deepest_statement_fits_the_stack_of_a_thread() {
    const STACK_BYTES: usize = 2 << 20;
    let run = || {
        let fields = [(Box::from("a"), Value::Int(2))].into_iter().collect();
        let id = encode_id(&Value::Int(1)).expect("an integer is an id");
        let row = ObjectRow { id, fields };
        let shapes = [
            ("(", ")"),
            ("abs(", ")"),
            ("[", "]"),
            ("{'k': ", "}"),
            ("NOT ", ""),
            ("-", ""),
            ("a + (", ")"),
            ("a IN (", ")"),
            ("a BETWEEN 1 AND (", ")"),
            ("a LIKE (", ")"),
            ("a OR a AND (", ")"),
            ("CASE a WHEN ", " THEN 1 END"),
            ("CAST(", " AS float)"),
            ("", " + a"),
            ("", ".b"),
        ];
        for (open, close) in shapes {
            // The deepest that is taken of each shape: some take more than one level at a time.
            let expr = |depth| format!("{}a{}", open.repeat(depth), close.repeat(depth));
            let text = |depth| format!("SELECT * FROM c WHERE {} = 1", expr(depth));
            let depths = 1..=usize::from(DEPTH_MAX);
            let taken = depths.rev().find(|&depth| Statement::parse(&text(depth)).is_ok());
            let statement = Statement::parse(&text(taken.expect("one level is taken")));
            let statement = Arc::new(statement.expect("it was taken before"));
            let bound = Bound::new(statement, &Object::new()).expect("it has no parameters");
            _ = bound.condition_text();
            _ = bound.matches(&row);
        }
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run);
    thread.expect("a thread").join().expect("the stack is large enough");
}
