//! The open connections of a server, each under a key that it keeps, and how many each address holds.

use std::collections::HashMap;
use std::net::IpAddr;

/// What is known of one connection.
enum Slot<T> {
    Free,
    Here(T),
    /// A thread has it that answers a request of it.
    Lent(IpAddr),
}

/// Connections by key.
pub(super) struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
    held: HashMap<IpAddr, usize>,
}

impl<T> Table<T> {
    pub(super) fn new() -> Table<T> {
        Table {
            slots: Vec::new(),
            free: Vec::new(),
            held: HashMap::new(),
        }
    }

    /// How many there are, those included that are lent.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes a connection in. Returns its key.
    pub(super) fn add(&mut self, address: IpAddr, connection: T) -> usize {
        *self.held.entry(address).or_default() += 1;
        let key = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            self.slots.len() - 1
        });
        self.slots[key] = Slot::Here(connection);
        key
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        match self.slots.get_mut(key) {
            Some(Slot::Here(connection)) => Some(connection),
            _ => None,
        }
    }

    /// Forgets a connection of that address.
    pub(super) fn remove(&mut self, key: usize, address: IpAddr) {
        self.slots[key] = Slot::Free;
        self.free.push(key);
        if let Some(held) = self.held.get_mut(&address) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&address);
            }
        }
    }

    /// Lends a connection of that address, which keeps its key.
    pub(super) fn lend(&mut self, key: usize, address: IpAddr) -> Option<T> {
        match std::mem::replace(&mut self.slots[key], Slot::Lent(address)) {
            Slot::Here(connection) => Some(connection),
            _ => None,
        }
    }

    /// Takes a lent connection back, or learns that it is closed.
    pub(super) fn give_back(&mut self, key: usize, connection: Option<T>) {
        match (connection, &self.slots[key]) {
            (Some(connection), _) => self.slots[key] = Slot::Here(connection),
            (None, &Slot::Lent(address)) => self.remove(key, address),
            (None, _) => {}
        }
    }

    /// Those that are not lent.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(key, slot)| match slot {
                Slot::Here(connection) => Some((key, connection)),
                _ => None,
            })
    }

    /// The address that holds most connections.
    pub(super) fn greediest(&self) -> Option<IpAddr> {
        let most = self.held.iter().max_by_key(|(_, held)| **held)?;
        Some(*most.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_keeps_its_key_and_counts_until_it_is_gone() {
        let [one, two] = [1, 2].map(|last| IpAddr::from([127, 0, 0, last]));
        let mut table = Table::new();
        let keys = [(one, 'a'), (two, 'b'), (two, 'c')].map(|(from, name)| table.add(from, name));
        assert_eq!((table.len(), table.greediest()), (3, Some(two)));
        assert_eq!(table.lend(keys[1], two), Some('b'));
        assert_eq!(table.get_mut(keys[1]), None, "it is elsewhere");
        assert_eq!(
            table.iter().map(|(_, &name)| name).collect::<String>(),
            "ac"
        );
        assert_eq!((table.len(), table.greediest()), (3, Some(two)));
        table.give_back(keys[1], Some('b'));
        assert_eq!(table.get_mut(keys[1]), Some(&mut 'b'));
        for key in &keys[1..] {
            assert!(table.lend(*key, two).is_some());
            table.give_back(*key, None);
        }
        assert_eq!((table.len(), table.greediest()), (1, Some(one)));
        table.remove(keys[0], one);
        assert_eq!((table.len(), table.greediest()), (0, None));
        assert_eq!(table.add(one, 'd'), keys[0], "a key is used again");
    }
}
