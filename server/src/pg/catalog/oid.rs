//! Object identifiers: stable numbers for relations, made from their names.
//!
//! Clients keep them between queries, also across a restart of the server, so they are not counted but hashed: FNV-1a of the
//! name, in the range that PostgreSQL leaves to users. Names whose hashes collide take the next free numbers, in the order
//! of the names.

use std::collections::BTreeSet;

/// The schema of the system tables, as PostgreSQL numbers it.
pub(super) const PG_CATALOG: i32 = 11;
/// The schema of the relations, as PostgreSQL numbers it.
pub(super) const PUBLIC: i32 = 2200;
/// The schema of the standard's system tables.
pub(super) const INFORMATION_SCHEMA: i32 = 13_000;
/// The one database.
pub(super) const DATABASE: i32 = 5;
/// The one role, which owns everything.
pub(super) const OWNER: i32 = 10;
/// System tables are numbered from here.
pub(super) const SYSTEM_TABLES: i32 = 13_100;

/// The least number of a user's object.
const FIRST: u32 = 16_384;

/// A number for each name, in the order of the names given. The names are distinct.
pub(super) fn of_names<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<i32> {
    let mut taken = BTreeSet::new();
    let mut sorted: Vec<(usize, &str)> = names.enumerate().collect();
    sorted.sort_by_key(|(_, name)| *name);
    let mut oids = vec![0; sorted.len()];
    for (index, name) in sorted {
        let mut oid = FIRST + fnv1a(name) % (i32::MAX as u32 - FIRST);
        while !taken.insert(oid) {
            oid = if oid < i32::MAX as u32 { oid + 1 } else { FIRST };
        }
        oids[index] = oid as i32;
    }
    oids
}

fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number() {
        let few = of_names(["demand", "bookings"].into_iter());
        let many = of_names(["a", "bookings", "c", "demand"].into_iter());
        assert_eq!((few[0], few[1]), (many[3], many[1]));
        assert!(many.iter().all(|oid| *oid >= FIRST as i32));
    }

    #[test]
    fn colliding_names_have_numbers_of_their_own() {
        // Two words that FNV-1a gives the same 32 bits.
        assert_eq!(fnv1a("costarring"), fnv1a("liquid"));
        let oids = of_names(["liquid", "costarring"].into_iter());
        assert_eq!(oids[0], oids[1] + 1);
    }
}
