//! The ends of what is allowed, and what is refused.

use sunfleck::{
    reference::philox::{self, Draw, Purpose},
    tree::{BlobField, DraftTree, DrawKind, NONE, field_offset},
    verify::{
        OutcomeError, Rule, RuleError, Sampling, Verdict, VerifyError, VerifyIo, VerifyProblem,
        VerifyRequest,
    },
};

use super::{Case, problem_for, run};
use crate::adapters::{TestGpu, on_every_adapter};

fn case(rule: Rule, tree: DraftTree, logits: &[[f32; 3]]) -> Case {
    let draw = tree.draw();
    Case {
        request: VerifyRequest::new(rule, draw, 4),
        tree,
        logits: logits.as_flattened().to_vec(),
        draft: Vec::new(),
        position: 0,
        occurred: Vec::new(),
        grammar: Vec::new(),
    }
}

fn verdict(gpu: &TestGpu, case: Case) -> Result<Verdict, OutcomeError> {
    let cases = [case];
    run(&gpu.gpu, &problem_for(&cases, 3), &cases).0.remove(0)
}

const NO: f32 = f32::NEG_INFINITY;
const RULES: [Rule; 6] = [
    Rule::Greedy,
    Rule::Rejection,
    Rule::ChainRejection,
    Rule::Block,
    Rule::Traversal,
    Rule::LossyThreshold(0.0),
];

#[test]
fn a_token_without_probability_is_never_kept() {
    on_every_adapter(|gpu| {
        for rule in RULES {
            let tree = DraftTree::chain(0, &[1, 1]).unwrap();
            let verdict = verdict(gpu, case(rule, tree, &[[NO, NO, 5.0]; 3])).unwrap();
            assert_eq!(verdict.tokens, [2], "{}: {rule:?}", gpu.name);
            assert_eq!(verdict.log_probabilities, [0.0], "{}: {rule:?}", gpu.name);
        }
    });
}

#[test]
fn a_chain_that_is_as_deep_as_there_is_room_is_kept_whole() {
    on_every_adapter(|gpu| {
        for rule in RULES {
            let tree = DraftTree::chain(0, &[1; 99]).unwrap();
            let verdict = verdict(gpu, case(rule, tree, &[[NO, 2.0, f32::NAN]; 100])).unwrap();
            assert_eq!(verdict.path.len(), 100, "{}: {rule:?}", gpu.name);
            assert_eq!(verdict.tokens, [1; 100], "{}: {rule:?}", gpu.name);
        }
    });
}

#[test]
fn the_coldest_temperatures_take_the_likeliest_token() {
    on_every_adapter(|gpu| {
        // The least normal number, and one that GPUs may take for 0.
        for temperature in [f32::MIN_POSITIVE, 1e-45] {
            for rule in [Rule::Rejection, Rule::Block, Rule::Traversal] {
                // Positive logits, and negative ones: no two of them may become one.
                for row in [[2.0, 3.0, 1.0], [-2.0, -1.0, -3.0]] {
                    let tree = DraftTree::chain(0, &[1; 20]).unwrap();
                    let mut case = case(rule, tree, &[row; 21]);
                    case.request.sampling.temperature = temperature;
                    let verdict = verdict(gpu, case).unwrap();
                    assert_eq!(verdict.tokens, [1; 21], "{}: {rule:?} {row:?}", gpu.name);
                    let likely = verdict.log_probabilities.iter();
                    assert!(likely.clone().all(|p| *p == 0.0), "{}: {rule:?}", gpu.name);
                }
            }
        }
    });
}

/// Seeds with which the test of the first child at position 18, or the token there, gets the least and the
/// largest number that there is.
#[test]
fn the_ends_of_the_unit_interval_choose_only_what_has_probability() {
    const LARGEST: f32 = 1.0 - 1.0 / 16_777_216.0;
    let number = |seed, purpose| {
        let draw = Draw {
            position: 18,
            child: 0,
            purpose,
            block: 0,
        };
        philox::uniform(philox::words(seed, draw)[0])
    };
    let at = |seed, tree, logits: &[[f32; 3]]| {
        let mut case = case(Rule::Rejection, tree, logits);
        case.position = 17;
        case.request.seed = seed;
        case
    };
    for seed in [63_126_451, 78_824_444] {
        assert_eq!(number(seed, Purpose::Accept), 0.0);
    }
    for seed in [335_856, 47_488_308] {
        assert_eq!(number(seed, Purpose::Accept), LARGEST);
    }
    for seed in [32_135_733, 34_460_976] {
        assert_eq!(number(seed, Purpose::Sample), 0.0);
    }
    for seed in [19_576_733, 43_321_813] {
        assert_eq!(number(seed, Purpose::Sample), LARGEST);
    }
    on_every_adapter(|gpu| {
        let chain = |token| DraftTree::chain(0, &[token]).unwrap();
        let tokens = |case| verdict(gpu, case).unwrap().tokens;
        // 0 * mass < 0 is false: a token without probability is not kept, one with the least is.
        for seed in [63_126_451, 78_824_444] {
            let rows = [[NO, 0.0, -80.0], [0.0, NO, NO]];
            assert_eq!(tokens(at(seed, chain(0), &rows)).len(), 1, "{}", gpu.name);
            assert_eq!(tokens(at(seed, chain(2), &rows)), [2, 0], "{}", gpu.name);
        }
        // The largest number keeps only what has all probability.
        for seed in [335_856, 47_488_308] {
            let rows = [[0.0, 10.0, NO], [0.0, NO, NO]];
            assert_eq!(tokens(at(seed, chain(1), &rows)), [0], "{}", gpu.name);
            let sure = [[NO, 10.0, NO], [0.0, NO, NO]];
            assert_eq!(tokens(at(seed, chain(1), &sure)), [1, 0], "{}", gpu.name);
        }
        // The token sampled is the first that has probability, or the last.
        for (seeds, wanted) in [
            ([32_135_733, 34_460_976], 1),
            ([19_576_733, 43_321_813], 9_000),
        ] {
            for seed in seeds {
                let mut logits = vec![NO; 9_003];
                for y in [1, 4_096, 8_000, 9_000] {
                    logits[y] = 1.0;
                }
                let mut case = at(seed, DraftTree::root_only(0), &[]);
                case.logits = logits;
                let cases = [case];
                let problem = problem_for(&cases, 9_003);
                let verdict = run(&gpu.gpu, &problem, &cases).0.remove(0).unwrap();
                assert_eq!(verdict.tokens, [wanted], "{}", gpu.name);
            }
        }
    });
}

/// As above, for the draws of rules that decide on several tokens together: seeds with which the test of node 1, a child
/// of the root at position 17, gets the least and the largest number that there is.
#[test]
fn the_ends_of_the_unit_interval_keep_only_what_has_probability_by_block_and_traversal() {
    const LARGEST: f32 = 1.0 - 1.0 / 16_777_216.0;
    let rules = [
        (
            Rule::Block,
            (0, Purpose::AcceptBlock),
            [3_818_504u64, 31_773_140],
            [13_031_458u64, 16_668_723],
        ),
        (
            Rule::Traversal,
            (1, Purpose::AcceptTraversal),
            [8_598_138, 25_503_345],
            [29_767_848, 83_404_532],
        ),
    ];
    for (_, (child, purpose), least, largest) in rules {
        let number = |seed| {
            let draw = Draw {
                position: 18,
                child,
                purpose,
                block: 1,
            };
            philox::uniform(philox::words(seed, draw)[0])
        };
        assert_eq!(least.map(number), [0.0; 2]);
        assert_eq!(largest.map(number), [LARGEST; 2]);
    }
    on_every_adapter(|gpu| {
        for (rule, _, least, largest) in rules {
            let kept = |seed, token, draft: Option<[f32; 3]>, rows: &[[f32; 3]]| {
                let mut tree = DraftTree::chain(0, &[token]).unwrap();
                if draft.is_some() {
                    tree = tree.with_draw(DrawKind::Iid).unwrap();
                }
                let mut case = case(rule, tree, rows);
                case.position = 17;
                case.request.seed = seed;
                case.draft = draft.map_or(Vec::new(), |row| row.to_vec());
                verdict(gpu, case).unwrap().path.len() == 2
            };
            // Drawn without chance, and from a row that is flat.
            for draft in [None, Some([0.0; 3])] {
                let name = format!("{}: {rule:?}, {draft:?}", gpu.name);
                for seed in least {
                    let rows = [[NO, 0.0, -80.0], [0.0, NO, NO]];
                    assert!(!kept(seed, 0, draft, &rows), "{name}");
                    assert!(kept(seed, 2, draft, &rows), "{name}");
                }
                for seed in largest {
                    let rows = [[0.0, 10.0, NO], [0.0, NO, NO]];
                    assert!(!kept(seed, 0, draft, &rows), "{name}");
                    let sure = [[NO, 10.0, NO], [0.0, NO, NO]];
                    assert!(kept(seed, 1, draft, &sure), "{name}");
                }
            }
        }
    });
}

#[test]
fn a_vocabulary_of_one_token_and_a_tree_of_one_node_give_that_token() {
    on_every_adapter(|gpu| {
        for rule in RULES {
            for nodes in [1usize, 2, 5] {
                let tree = DraftTree::chain(0, &vec![0; nodes - 1]).unwrap();
                let cases = [Case {
                    logits: vec![-3.0; nodes],
                    ..case(rule, tree, &[])
                }];
                let verdict = run(&gpu.gpu, &problem_for(&cases, 1), &cases).0.remove(0);
                let verdict = verdict.unwrap();
                assert_eq!(verdict.tokens, vec![0; nodes], "{}: {rule:?}", gpu.name);
                assert_eq!(verdict.log_probabilities, vec![0.0; nodes]);
            }
        }
    });
}

/// The most nodes there can be: as a chain, depth N; as a bush, every node used.
#[test]
fn the_largest_trees_are_verified_to_their_last_node() {
    on_every_adapter(|gpu| {
        if gpu.is_slow() || gpu.compiles_slowly() {
            return;
        }
        let most = sunfleck::tree::MAX_NODES;
        for rule in [Rule::Greedy, Rule::Rejection, Rule::Block, Rule::Traversal] {
            let chain = DraftTree::chain(0, &vec![1; most - 1]).unwrap();
            let cases = [Case {
                logits: [NO, 2.0, NO].repeat(most),
                ..case(rule, chain, &[])
            }];
            let verdict = run(&gpu.gpu, &problem_for(&cases, 3), &cases)
                .0
                .remove(0)
                .unwrap();
            assert_eq!(verdict.tokens, vec![1; most], "{}: {rule:?}", gpu.name);
        }
        // 4,095 children of the root, of which only the last has a token of any probability.
        let parents = (0..most)
            .map(|node| if node == 0 { NONE } else { 0 })
            .collect();
        let tokens = (0..most as u32).collect();
        let star = DraftTree::from_parents(tokens, parents, DrawKind::TopK).unwrap();
        let mut logits = vec![NO; most * most];
        for row in logits.chunks_exact_mut(most) {
            row[most - 1] = 0.0;
        }
        let cases = [Case {
            logits,
            ..case(Rule::Rejection, star, &[])
        }];
        let problem = problem_for(&cases, most as u32);
        let verdict = run(&gpu.gpu, &problem, &cases).0.remove(0).unwrap();
        assert_eq!(verdict.path, [0, most as u32 - 1], "{}", gpu.name);
    });
}

#[test]
fn equal_distributions_keep_everything() {
    on_every_adapter(|gpu| {
        for seed in 0..8 {
            let tree = DraftTree::chain(0, &[1, 2, 0])
                .unwrap()
                .with_draw(DrawKind::Iid)
                .unwrap();
            let mut case = case(Rule::Rejection, tree, &[[0.3, -1.7, 0.9]; 4]);
            case.draft = [0.3, -1.7, 0.9].repeat(3);
            case.request.seed = seed;
            assert_eq!(verdict(gpu, case).unwrap().path.len(), 4, "{}", gpu.name);
        }
    });
}

#[test]
fn what_can_not_be_verified_is_flagged_and_commits_nothing() {
    on_every_adapter(|gpu| {
        let chain = DraftTree::chain(0, &[1]).unwrap();
        let empty = case(Rule::Rejection, chain.clone(), &[[NO, NO, f32::NAN]; 2]);
        let problem = problem_for(std::slice::from_ref(&empty), 3);
        let (verdicts, lengths) = run(&gpu.gpu, &problem, &[empty]);
        assert_eq!(verdicts[0], Err(OutcomeError::NoArgmax), "{}", gpu.name);
        assert_eq!(lengths, [0], "{}", gpu.name);

        let sampled = chain.with_draw(DrawKind::Iid).unwrap();
        let mut undrawn = case(Rule::Rejection, sampled, &[[0.0; 3]; 2]);
        undrawn.draft = vec![0.0, NO, 0.0];
        assert_eq!(
            verdict(gpu, undrawn),
            Err(OutcomeError::ImpossibleDraft),
            "{}",
            gpu.name
        );

        let fork =
            DraftTree::from_parents(vec![0, 1, 2], vec![NONE, 0, 0], DrawKind::TopK).unwrap();
        let forked = case(Rule::ChainRejection, fork, &[[0.0, NO, NO]; 3]);
        assert_eq!(
            verdict(gpu, forked),
            Err(OutcomeError::NotAChain),
            "{}",
            gpu.name
        );

        let outside = DraftTree::chain(0, &[3]).unwrap();
        let outside = case(Rule::Rejection, outside, &[[0.0; 3]; 2]);
        assert_eq!(
            verdict(gpu, outside),
            Err(OutcomeError::TokenOutside),
            "{}",
            gpu.name
        );
    });
}

#[test]
fn a_damaged_blob_ends_with_a_flag() {
    on_every_adapter(|gpu| {
        let tree = DraftTree::chain(0, &[1, 1]).unwrap();
        let good = tree.blob(4).unwrap();
        let problem = VerifyProblem::new(1, 4, 3);
        let prepared =
            pollster::block_on(gpu.gpu.plan_verify(&problem).unwrap().prepare()).unwrap();
        // Node 1 its own child; a child past the end; more nodes than there is room for.
        for (field, node, value) in [
            (BlobField::FirstChild, 1, 1),
            (BlobField::FirstChild, 1, 77),
            (BlobField::DfsOut, 0, 900),
        ] {
            let mut blob = good.clone();
            blob[field_offset(field, 4) + node] = value;
            let rows = [[NO, 1.0, NO]; 4];
            let logits = gpu.gpu.storage_with("logits", rows.as_flattened()).unwrap();
            let tree = gpu.gpu.storage_with("tree", &blob).unwrap();
            let lengths = gpu.gpu.storage_with("lengths", &[[3u32, 0, 0, 0]]).unwrap();
            let verify = prepared
                .bind(&VerifyIo {
                    logits: (&logits).into(),
                    draft: None,
                    tree: (&tree).into(),
                    lengths: (&lengths).into(),
                    masks: None,
                })
                .unwrap();
            let request = VerifyRequest::new(Rule::Rejection, DrawKind::TopK, 1);
            verify.set_request(0, &request).unwrap();
            gpu.run(|pass| verify.encode(pass));
            let words: Vec<u32> = gpu.read(verify.outcome());
            let verdict = Verdict::from_words(&words, 4);
            assert_eq!(
                verdict,
                Err(OutcomeError::BadTree),
                "{}: {field:?}",
                gpu.name
            );
        }
    });
}

#[test]
fn requests_and_arguments_that_do_not_fit_are_refused_with_the_reason() {
    on_every_adapter(|gpu| {
        let plan = |problem: &VerifyProblem| gpu.gpu.plan_verify(problem);
        for problem in [
            VerifyProblem::new(0, 4, 3),
            VerifyProblem::new(1, 0, 3),
            VerifyProblem::new(1, 4, 0),
            VerifyProblem::new(1, 4, 262_145),
        ] {
            assert!(matches!(plan(&problem), Err(VerifyError::Size { .. })));
        }
        let problem = VerifyProblem::new(1, 4, 64);
        let prepared = pollster::block_on(plan(&problem).unwrap().prepare()).unwrap();
        let buffer = gpu.gpu.storage("large", 4096).unwrap();
        let tree = gpu.gpu.storage("tree", 4096).unwrap();
        let lengths = gpu.gpu.storage("lengths", 16).unwrap();
        let io = VerifyIo {
            logits: (&buffer).into(),
            draft: None,
            tree: (&tree).into(),
            lengths: (&lengths).into(),
            masks: None,
        };
        let verify = prepared.bind(&io).unwrap();
        let set = |change: fn(&mut VerifyRequest)| {
            let mut request = VerifyRequest::new(Rule::Rejection, DrawKind::TopK, 0);
            change(&mut request);
            verify.set_request(0, &request)
        };
        assert!(set(|_| ()).is_ok());
        let refused = set(|request| request.draw = DrawKind::Iid).unwrap_err();
        let reason = matches!(
            refused,
            VerifyError::Rule(RuleError::NoDraftProbabilities { .. })
        );
        assert!(reason, "{refused}");
        assert!(set(|request| request.rule = Rule::Traversal).is_ok());
        assert!(matches!(
            set(|request| request.sampling.temperature = 0.0),
            Err(VerifyError::Sampling(_))
        ));
        assert!(matches!(
            set(|request| {
                request.sampling = Sampling {
                    presence_penalty: 1.0,
                    ..Sampling::default()
                }
            }),
            Err(VerifyError::Request { .. })
        ));
        assert!(set(|request| request.grammar = true).is_err());
        let outside = VerifyRequest::new(Rule::Greedy, DrawKind::TopK, 0);
        assert!(verify.set_request(1, &outside).is_err());

        let draft = Some((&buffer).into());
        let superfluous = prepared.bind(&VerifyIo { draft, ..io }).unwrap_err();
        assert!(matches!(
            superfluous,
            VerifyError::Argument { name: "draft", .. }
        ));
        let logits = (&lengths).into();
        let short = prepared.bind(&VerifyIo { logits, ..io }).unwrap_err();
        assert!(matches!(
            short,
            VerifyError::ViewTooSmall { name: "logits", .. }
        ));
    });
}
