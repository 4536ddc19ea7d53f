use super::*;

#[test]
fn the_table_is_sorted_so_that_names_are_found() {
    assert!(TABLE.is_sorted_by_key(|function| function.name));
    for function in &TABLE {
        assert_eq!(
            find(&function.name.to_uppercase()).map(|found| found.name),
            Some(function.name)
        );
    }
}
