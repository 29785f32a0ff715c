//! Forks that share pages, and the copies that keep them apart.

use sunfleck::{
    attention::Element,
    cache::{CacheShape, KvCache, PageCopies, PoolOptions},
};

use super::memory::{HALVES, fill, layer, row, slot};
use crate::adapters::on_every_adapter;

#[test]
fn a_fork_that_goes_on_has_its_parents_tokens_in_a_page_of_its_own() {
    on_every_adapter(|gpu| {
        for element in [Element::F32, Element::F16, Element::Q8] {
            let shape = CacheShape::new(3, 2, 64, element);
            let pool = PoolOptions {
                page_tokens: 16,
                pages: 12,
            };
            let cache = KvCache::paged(&gpu.gpu, shape, 3, 64, pool).unwrap();
            let copies = pollster::block_on(PageCopies::new(&gpu.gpu, &cache)).unwrap();
            let mut pager = cache.pager().unwrap();
            let parent = pager.create().unwrap();
            pager.reserve(&[(parent, 40)]).unwrap();
            pager.commit(parent, 40).unwrap();
            fill(gpu, &cache, 3);
            let before = HALVES.map(|half| [0, 2].map(|l| layer(gpu, &cache, l, half)));
            let (first, second) = (pager.fork(parent).unwrap(), pager.fork(parent).unwrap());
            assert_eq!(pager.free_pages(), 9);
            let parent_slots: Vec<_> = (0..40)
                .map(|t| slot(&cache, Some(&pager), 0, t).unwrap())
                .collect();
            // Two of the three who share the last page go on: both get a copy.
            let list = pager.reserve(&[(first, 5), (second, 1)]).unwrap();
            assert_eq!(list.len(), 2);
            cache.write_page_table(&gpu.gpu, &pager).unwrap();
            gpu.run(|pass| copies.encode(&gpu.gpu, pass, &list).unwrap());
            let after = HALVES.map(|half| [0, 2].map(|l| layer(gpu, &cache, l, half)));
            let last_slot = |sequence| slot(&cache, Some(&pager), sequence, 39).unwrap();
            assert!(last_slot(0) != last_slot(1) && last_slot(1) != last_slot(2));
            for sequence in 0..3 {
                for (token, source) in parent_slots.iter().enumerate() {
                    let place = slot(&cache, Some(&pager), sequence, token as u32).unwrap();
                    for half in HALVES {
                        for l in 0..2 {
                            for head in 0..2 {
                                let was =
                                    row(&cache, &before[half as usize][l], half, head, *source);
                                let is = row(&cache, &after[half as usize][l], half, head, place);
                                assert_eq!(
                                    was, is,
                                    "{} sequence {sequence} token {token}",
                                    gpu.name
                                );
                            }
                        }
                    }
                }
            }
            let too_many = vec![list[0]; 4];
            gpu.run(|pass| assert!(copies.encode(&gpu.gpu, pass, &too_many).is_err()));
        }
    });
}
