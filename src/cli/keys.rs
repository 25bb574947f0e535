//! `podswell keys`: the annotations as a table, printed from the list that the parser uses.

pub(super) fn table() -> String {
    crate::core::keys::markdown()
}
