//! The pager against a simple model: random sequences of operations on a pool whose slots hold numbers, so
//! that every token can be followed through forks, copies, commits and exchanges.

use proptest::prelude::*;

use super::{CacheError, PageCopy, Pager, SequenceId, moved_pages};

const PAGES: u32 = 9;
const PAGE: u32 = 16;
const SEQUENCES: u32 = 4;
const CAPACITY: u32 = 100;

#[derive(Clone, Debug)]
enum Operation {
    Create,
    Fork(usize),
    /// Reserves a draft of so many tokens for each of some sequences, and appends it.
    Draft {
        whose: Vec<usize>,
        nodes: u32,
    },
    /// Commits every `keep`-th node of a draft from a node on.
    Commit {
        who: usize,
        skip: u32,
        keep: u32,
    },
    /// A prompt, kept whole.
    Prompt(usize, u32),
    Truncate(usize, u32),
    Evict(usize, u32, u32),
    Free(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    let whose = 0usize..6;
    prop_oneof![
        2 => Just(Operation::Create),
        2 => whose.clone().prop_map(Operation::Fork),
        5 => (prop::collection::vec(whose.clone(), 1..3), 0u32..50)
            .prop_map(|(whose, nodes)| Operation::Draft { whose, nodes }),
        5 => (whose.clone(), 0u32..40, 1u32..4)
            .prop_map(|(who, skip, keep)| Operation::Commit { who, skip, keep }),
        4 => (whose.clone(), 0u32..60).prop_map(|(who, tokens)| Operation::Prompt(who, tokens)),
        2 => (whose.clone(), 0u32..110).prop_map(|(who, len)| Operation::Truncate(who, len)),
        2 => (whose.clone(), 0u32..40, 0u32..60).prop_map(|(who, s, w)| Operation::Evict(who, s, w)),
        1 => whose.prop_map(Operation::Free),
    ]
}

/// What a sequence should read.
#[derive(Clone, Debug)]
struct Own {
    id: SequenceId,
    tokens: Vec<(u64, u32)>, // number, position
    next: u32,               // position of the next token
    draft: Vec<u64>,         // appended, not committed
}

/// The pager, what the GPU's pool would hold, and what each sequence should read.
struct World {
    pager: Pager,
    pool: Vec<u64>, // [page, slot]
    sequences: Vec<Own>,
    dead: Vec<SequenceId>,
    next: u64,
}

impl World {
    fn slot(&self, id: SequenceId, token: u32) -> usize {
        let page = self.pager.pages_of(id).unwrap()[(token / PAGE) as usize];
        (page * PAGE + token % PAGE) as usize
    }

    /// Reserves for all, makes the copies, and writes a number of its own to every reserved token. Says
    /// whether there was room.
    fn draft(&mut self, requests: &[(usize, u32)]) -> bool {
        let ids: Vec<_> = (requests
            .iter()
            .map(|(who, n)| (self.sequences[*who].id, *n)))
        .collect();
        let before = format!("{:?}", self.pager);
        let copies = match self.pager.reserve(&ids) {
            Ok(copies) => copies,
            Err(CacheError::OutOfPages { needed, free, .. }) => {
                assert!(needed > free && free == self.pager.free_pages());
                assert_eq!(format!("{:?}", self.pager), before);
                return false;
            }
            Err(CacheError::SequenceFull { needed, .. }) => {
                assert!(needed > u64::from(CAPACITY));
                assert_eq!(format!("{:?}", self.pager), before);
                return false;
            }
            Err(error) => panic!("{error}"),
        };
        for PageCopy { from, to } in copies {
            let (from, to) = ((from * PAGE) as usize, (to * PAGE) as usize);
            self.pool.copy_within(from..from + PAGE as usize, to);
        }
        for ((who, tokens), (id, _)) in requests.iter().zip(ids) {
            let len = self.pager.len(id).unwrap();
            let numbers: Vec<u64> = (0..u64::from(*tokens)).map(|i| self.next + i).collect();
            self.next += u64::from(*tokens);
            for (i, number) in (0..).zip(&numbers) {
                let slot = self.slot(id, len + i);
                self.pool[slot] = *number;
            }
            // What was drafted before and not written again stays reserved.
            let old = &mut self.sequences[*who].draft;
            let kept = old.split_off(numbers.len().min(old.len()));
            *old = [numbers, kept].concat();
        }
        true
    }

    /// The commit kernel: moves what does not move whole, by the old table.
    fn commit(&mut self, who: usize, path: &[u32]) {
        let (id, past) = (
            self.sequences[who].id,
            self.sequences[who].tokens.len() as u32,
        );
        let exchanged = moved_pages(path, past, PAGE);
        for (i, node) in (0..).zip(path) {
            if !exchanged.iter().any(|(to, _)| *to == (past + i) / PAGE) {
                let (to, from) = (self.slot(id, past + i), self.slot(id, past + node));
                self.pool[to] = self.pool[from];
            }
        }
        self.pager.commit_path(id, path).unwrap();
        let own = &mut self.sequences[who];
        let draft = std::mem::take(&mut own.draft);
        for node in path {
            own.tokens.push((draft[*node as usize], own.next));
            own.next += 1;
        }
    }

    fn apply(&mut self, operation: &Operation) {
        let count = self.sequences.len();
        let exists = |who: usize| who < count;
        match operation {
            Operation::Create => match self.pager.create() {
                Ok(id) => self.sequences.push(Own {
                    id,
                    tokens: vec![],
                    next: 0,
                    draft: vec![],
                }),
                Err(error) => {
                    assert!(matches!(error, CacheError::OutOfSequences { .. }));
                    assert_eq!(count, SEQUENCES as usize);
                }
            },
            Operation::Fork(who) if exists(*who) => {
                let own = self.sequences[*who].clone();
                let free = self.pager.free_pages();
                if let Ok(id) = self.pager.fork(own.id) {
                    let draft = vec![];
                    self.sequences.push(Own { id, draft, ..own });
                }
                assert_eq!(self.pager.free_pages(), free, "a fork takes no page");
            }
            Operation::Draft { whose, nodes } => {
                let mut whose: Vec<_> = whose.iter().copied().filter(|who| exists(*who)).collect();
                whose.sort_unstable();
                whose.dedup();
                let requests: Vec<_> = whose.iter().map(|who| (*who, *nodes)).collect();
                self.draft(&requests);
            }
            Operation::Commit { who, skip, keep } if exists(*who) => {
                let nodes = self.sequences[*who].draft.len() as u32;
                if nodes > 0 {
                    let mut path = vec![0];
                    path.extend((1 + skip..nodes).step_by(*keep as usize));
                    self.commit(*who, &path);
                }
            }
            Operation::Prompt(who, tokens) if exists(*who) && self.draft(&[(*who, *tokens)]) => {
                let own = &mut self.sequences[*who];
                self.pager.commit(own.id, *tokens).unwrap();
                for number in own.draft.drain(..).take(*tokens as usize) {
                    own.tokens.push((number, own.next));
                    own.next += 1;
                }
            }
            Operation::Truncate(who, len) if exists(*who) => {
                let own = &mut self.sequences[*who];
                match self.pager.truncate(own.id, *len) {
                    Ok(()) => {
                        if (*len as usize) < own.tokens.len() {
                            own.tokens.truncate(*len as usize);
                            own.next = own.tokens.last().map_or(0, |(_, position)| position + 1);
                        }
                        own.draft.clear();
                    }
                    Err(error) => {
                        assert!(matches!(error, CacheError::Length { .. }));
                        assert!(*len as usize > own.tokens.len());
                    }
                }
            }
            Operation::Evict(who, sinks, window) if exists(*who) => {
                let own = &mut self.sequences[*who];
                let dropped = self.pager.evict(own.id, *sinks, *window).unwrap() as usize;
                let first = (*sinks).next_multiple_of(PAGE) as usize;
                assert!(dropped == 0 || own.tokens.len() - first - dropped >= *window as usize);
                let len = own.tokens.len();
                own.tokens.drain(first.min(len)..(first + dropped).min(len));
            }
            Operation::Free(who) if exists(*who) => {
                let own = self.sequences.remove(*who);
                self.pager.free(own.id).unwrap();
                self.dead.push(own.id);
            }
            _ => {}
        }
    }

    fn check(&self) {
        let mut holders = vec![0; PAGES as usize];
        for own in &self.sequences {
            let len = own.tokens.len();
            assert_eq!(self.pager.len(own.id).unwrap() as usize, len);
            let pages = self.pager.pages_of(own.id).unwrap();
            assert_eq!(
                pages.len(),
                (len + own.draft.len()).div_ceil(PAGE as usize),
                "pages without tokens"
            );
            for (at, page) in pages.iter().enumerate() {
                assert!(!pages[..at].contains(page), "a page twice in one sequence");
                holders[*page as usize] += 1;
            }
            let read = |from: usize, to: usize| -> Vec<u64> {
                let tokens = from as u32..to as u32;
                tokens.map(|t| self.pool[self.slot(own.id, t)]).collect()
            };
            let numbers: Vec<u64> = own.tokens.iter().map(|(number, _)| *number).collect();
            assert_eq!(
                read(0, len),
                numbers,
                "a sequence reads what is not its own"
            );
            assert_eq!(
                read(len, len + own.draft.len()),
                own.draft,
                "another writes into a draft"
            );
            let [_, past, _, evicted] = self.pager.step(own.id, 1, 0).unwrap();
            assert_eq!(past + evicted, own.next, "the next token's position");
        }
        let held = holders.iter().filter(|holders| **holders > 0).count();
        assert_eq!(
            self.pager.free_pages() as usize + held,
            PAGES as usize,
            "a leak"
        );
        for id in &self.dead {
            assert!(matches!(
                self.pager.len(*id),
                Err(CacheError::NoSequence { .. })
            ));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..Default::default() })]

    #[test]
    fn every_sequence_reads_its_own_tokens_and_no_page_leaks(
        operations in prop::collection::vec(operation(), 1..60),
    ) {
        let mut world = World {
            pager: Pager::new(PAGES, PAGE, SEQUENCES, CAPACITY).unwrap(),
            pool: vec![u64::MAX; (PAGES * PAGE) as usize],
            sequences: vec![],
            dead: vec![],
            next: 0,
        };
        for operation in &operations {
            world.apply(operation);
            world.check();
        }
        for own in std::mem::take(&mut world.sequences) {
            world.pager.free(own.id).unwrap();
        }
        prop_assert_eq!(world.pager.free_pages(), PAGES);
    }
}

#[test]
fn pages_move_whole_only_from_past_all_that_is_kept() {
    let run =
        |from: u32, len: u32| -> Vec<u32> { [0].into_iter().chain(from..from + len).collect() };
    // 15 tokens before: path nodes 1 to 16 fill the second page.
    assert_eq!(moved_pages(&run(33, 16), 15, 16), [(1, 3)]);
    assert_eq!(moved_pages(&run(33, 20), 15, 16), [(1, 3)]);
    // Not from the middle of a page, not short of a page, not with a gap, not from among the kept.
    assert_eq!(moved_pages(&run(34, 16), 15, 16), []);
    assert_eq!(moved_pages(&run(33, 15), 15, 16), []);
    let mut gap = run(33, 16);
    gap[16] += 1;
    assert_eq!(moved_pages(&gap, 15, 16), []);
    // What no commit has.
    assert_eq!(moved_pages(&[0, 9, 3], 0, 2), []);
    assert_eq!(moved_pages(&[0, 1], u32::MAX - 1, 16), []);
    assert_eq!(moved_pages(&[0, 1], 3, 0), []);
    assert_eq!(moved_pages(&run(17, 30), 15, 16), []);
    assert_eq!(moved_pages(&run(1, 40), 15, 16), []);
    assert_eq!(moved_pages(&[], 15, 16), []);
    // Two pages at once.
    assert_eq!(moved_pages(&run(49, 32), 15, 16), [(1, 4), (2, 5)]);
}

#[test]
fn a_batch_that_does_not_fit_changes_nothing() {
    let mut pager = Pager::new(4, 16, 2, 64).unwrap();
    let (a, b) = (pager.create().unwrap(), pager.create().unwrap());
    pager.reserve(&[(a, 16)]).unwrap();
    pager.commit(a, 16).unwrap();
    let before = format!("{pager:?}");
    let error = pager.reserve(&[(a, 20), (b, 20)]).unwrap_err();
    assert!(
        matches!(
            error,
            CacheError::OutOfPages {
                needed: 4,
                free: 3,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(format!("{pager:?}"), before);
    // What is released makes room.
    pager.truncate(a, 0).unwrap();
    pager.reserve(&[(a, 20), (b, 20)]).unwrap();
    assert_eq!(pager.free_pages(), 0);
}

#[test]
fn wrong_handles_paths_and_sizes_are_typed_errors() {
    assert!(matches!(
        Pager::new(4, 20, 1, 1),
        Err(CacheError::PageTokens { .. })
    ));
    assert!(matches!(
        Pager::new(0, 16, 1, 1),
        Err(CacheError::Zero { .. })
    ));
    for (pages, sequences, capacity) in [(1 << 30, 1, 1), (1, 1 << 30, 64), (1, 1, u32::MAX)] {
        let huge = Pager::new(pages, 16, sequences, capacity);
        assert!(matches!(huge, Err(CacheError::TooLarge { .. })));
    }
    let mut pager = Pager::new(4, 16, 1, 64).unwrap();
    let id = pager.create().unwrap();
    assert!(matches!(
        pager.create(),
        Err(CacheError::OutOfSequences { .. })
    ));
    assert!(matches!(
        pager.reserve(&[(id, 1), (id, 1)]),
        Err(CacheError::Mismatch { .. })
    ));
    pager.reserve(&[(id, 5)]).unwrap();
    for path in [&[0, 2, 1][..], &[1], &[0, 5], &[0, 0]] {
        let error = pager.commit_path(id, path).unwrap_err();
        assert!(
            matches!(error, CacheError::Path { reserved: 5, .. }),
            "{path:?}"
        );
    }
    assert!(matches!(pager.commit(id, 6), Err(CacheError::Path { .. })));
    pager.commit_path(id, &[0, 2, 4]).unwrap();
    assert!(matches!(
        pager.truncate(id, 4),
        Err(CacheError::Length { len: 3, given: 4 })
    ));
    pager.free(id).unwrap();
    let again = pager.create().unwrap();
    assert_eq!(again.slot(), id.slot());
    assert!(matches!(pager.free(id), Err(CacheError::NoSequence { .. })));
    assert_eq!(pager.step(again, 3, 7).unwrap(), [3, 0, 7, 0]);
}

#[test]
fn eviction_keeps_sinks_window_and_positions() {
    let mut pager = Pager::new(8, 16, 1, 128).unwrap();
    let id = pager.create().unwrap();
    pager.reserve(&[(id, 100)]).unwrap();
    pager.commit(id, 100).unwrap();
    let pages = pager.pages_of(id).unwrap().to_vec();
    assert_eq!(pager.evict(id, 4, 30).unwrap(), 48);
    assert_eq!(
        pager.pages_of(id).unwrap(),
        [pages[0], pages[4], pages[5], pages[6]]
    );
    assert_eq!(
        (pager.len(id).unwrap(), pager.evicted(id).unwrap()),
        (52, 48)
    );
    // The next token stands where it would have stood.
    assert_eq!(pager.step(id, 1, 0).unwrap(), [1, 52, 0, 48]);
    assert_eq!(pager.evict(id, 4, 30).unwrap(), 0);
    assert_eq!(pager.evict(id, 1000, 0).unwrap(), 0);
    // 100 tokens less 48; back into the window, the 20th kept token stood at 67.
    pager.truncate(id, 20).unwrap();
    assert_eq!(pager.step(id, 1, 0).unwrap(), [1, 20, 0, 48]);
    // Back to the sinks: nothing is left that stood after a gap.
    pager.truncate(id, 16).unwrap();
    assert_eq!(pager.step(id, 1, 0).unwrap(), [1, 16, 0, 0]);
}

#[test]
fn gaps_of_several_evictions_are_rolled_back_one_by_one() {
    let mut pager = Pager::new(16, 16, 1, 256).unwrap();
    let id = pager.create().unwrap();
    pager.reserve(&[(id, 160)]).unwrap();
    pager.commit(id, 160).unwrap();
    // Pages 3, 4 and then 6 of ten.
    assert_eq!(pager.evict(id, 48, 80).unwrap(), 32);
    assert_eq!(pager.evict(id, 64, 48).unwrap(), 16);
    let position = |pager: &Pager| {
        let [_, past, _, evicted] = pager.step(id, 1, 0).unwrap();
        past + evicted
    };
    assert_eq!((pager.len(id).unwrap(), position(&pager)), (112, 160));
    let mut back = pager.clone();
    back.truncate(id, 64).unwrap();
    assert_eq!(position(&back), 96); // after page 5, which follows pages 3 and 4
    back.truncate(id, 48).unwrap();
    assert_eq!(position(&back), 48);
    // An eviction that reaches over both gaps makes them one.
    assert_eq!(pager.evict(id, 16, 16).unwrap(), 80);
    pager.truncate(id, 17).unwrap();
    assert_eq!(position(&pager), 145);
    pager.truncate(id, 16).unwrap();
    assert_eq!(position(&pager), 16);
}

#[test]
fn reserving_nothing_takes_and_copies_nothing() {
    let mut pager = Pager::new(2, 16, 2, 64).unwrap();
    let parent = pager.create().unwrap();
    pager.reserve(&[(parent, 20)]).unwrap();
    pager.commit(parent, 20).unwrap();
    let fork = pager.fork(parent).unwrap();
    // No page is free, and the last one is shared.
    assert!(pager.reserve(&[(fork, 1)]).is_err());
    assert_eq!(pager.reserve(&[(fork, 0), (parent, 0)]).unwrap(), []);
}
