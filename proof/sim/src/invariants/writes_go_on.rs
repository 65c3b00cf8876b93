//! While a majority of the disks has room, and nothing else is wrong, writes succeed: a leader whose
//! disk is full hands over, and a node that cannot store entries holds no lease.

use super::Invariant;
use crate::world::World;

#[derive(Default)]
pub(super) struct Judge {
    judged: usize,
}

impl Invariant for Judge {
    fn name(&self) -> &'static str {
        "writes_go_on"
    }

    fn each_second(&mut self, world: &World) -> Result<(), String> {
        let bound = world.full_disk_time();
        let failed = &world.book.failed_writes[self.judged..];
        self.judged = world.book.failed_writes.len();
        let only =
            |(from, until): &&(u64, u64)| world.book.had_only_full_disks(*from, *until, bound);
        match failed.iter().find(only) {
            Some((from, until)) => Err(format!(
                "a write from {from} failed at {until}, and most disks had room for longer than {bound}"
            )),
            None => Ok(()),
        }
    }
}
