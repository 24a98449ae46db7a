use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::RngAlgorithm;
use tokio::time::Duration;

use super::*;

/// Operations on a queue by callers, the driver and time.
#[derive(Clone, Copy, Debug)]
enum Step {
    Submit {
        len: usize,
        within: u64,
    },
    Poll(usize),
    Abandon(usize),
    Take,
    Reply(usize),
    /// The connection ends after this percentage of the taken bytes was written.
    Lose(usize),
    Sweep(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..60_usize, 1..50_u64).prop_map(|(len, within)| Step::Submit { len, within }),
        4 => any::<prop::sample::Index>().prop_map(|at| Step::Poll(at.index(1 << 16))),
        1 => any::<prop::sample::Index>().prop_map(|at| Step::Abandon(at.index(1 << 16))),
        2 => Just(Step::Take),
        3 => (0..5_usize).prop_map(Step::Reply),
        1 => (0..=100_usize).prop_map(Step::Lose),
        1 => (1..20_u64).prop_map(Step::Sweep),
    ]
}

/// The node's side: requests are numbered, and each reply is the request's number.
#[derive(Default)]
struct World {
    /// Callers without an outcome yet, with the number of the request.
    callers: HashMap<SlotId, Vec<u8>>,
    /// Bytes taken and not yet lost, and the number of requests in them that were answered.
    wire: Vec<u8>,
    answered: usize,
}

/// The payloads of whole requests, `*1 $len payload`.
fn requests(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    while let Some(header) = bytes.strip_prefix(b"*1\r\n$") {
        let end = header.iter().position(|&byte| byte == b'\r').unwrap();
        let len: usize = str::from_utf8(&header[..end]).unwrap().parse().unwrap();
        requests.push(header[end + 2..][..len].to_vec());
        bytes = &header[end + 2 + len + 2..];
    }
    requests
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, rng_algorithm: RngAlgorithm::XorShift, ..ProptestConfig::default() })]

    /// In any order of operations, a caller gets the reply to its own request or a true account of what became of it,
    /// the limits hold, and in the end no slot is in use.
    #[test]
    fn every_caller_learns_what_became_of_its_own_request(steps in prop::collection::vec(step(), 1..120)) {
        const MAX_REQUESTS: usize = 5;
        const MAX_BYTES: usize = 400;
        let waker = Waker::noop();
        let start = Instant::now();
        let patience = Duration::from_millis(50);
        let mut now = start;
        let mut queue = Queue::new(MAX_REQUESTS, MAX_BYTES);
        let mut world = World::default();
        let mut written: Vec<Vec<u8>> = Vec::new();
        let mut wakers = Vec::new();
        let pick = |world: &World, at: usize| {
            let mut ids: Vec<_> = world.callers.keys().copied().collect();
            ids.sort();
            (!ids.is_empty()).then(|| ids[at % ids.len()])
        };
        let end = [Step::Sweep(1_000), Step::Lose(100)];
        for (number, step) in steps.into_iter().chain(end).enumerate() {
            match step {
                Step::Submit { len, within } => {
                    let payload = [number.to_string().as_bytes(), &vec![b'.'; len]].concat();
                    let deadline = now + Duration::from_millis(within);
                    let id = queue.submit(&[&payload], deadline, waker);
                    prop_assert!(world.callers.insert(id, payload).is_none(), "a slot in use was given away");
                }
                Step::Poll(at) => if let Some(id) = pick(&world, at) {
                    let payload = world.callers[&id].clone();
                    if let Poll::Ready(outcome) = queue.poll(id, &[&payload], waker) {
                        world.callers.remove(&id);
                        match outcome {
                            Outcome::Reply { frame, .. } => prop_assert_eq!(frame, Frame::Bulk(payload.into())),
                            Outcome::NotSent(_) => prop_assert!(!written.contains(&payload)),
                            Outcome::Lost(_) | Outcome::TimedOut => {}
                            Outcome::Stopped => prop_assert!(false, "nothing was stopped"),
                        }
                    }
                },
                Step::Abandon(at) => if let Some(id) = pick(&world, at) {
                    world.callers.remove(&id);
                    queue.abandon(id, &mut wakers);
                },
                Step::Take => {
                    let mut bytes = Vec::new();
                    queue.take(&mut bytes, waker, false);
                    world.wire.extend(bytes);
                }
                Step::Reply(count) => {
                    let all = requests(&world.wire);
                    let replies: Vec<_> =
                        all.iter().skip(world.answered).take(count).cloned().collect();
                    written.extend(replies.iter().cloned());
                    world.answered += replies.len();
                    let frames = replies.into_iter().map(|payload| Frame::Bulk(payload.into()));
                    prop_assert_eq!(queue.deliver(frames, 1, &mut wakers), Ok(()));
                }
                Step::Lose(percent) => {
                    // Answered requests were written, and part of the rest.
                    let answered: usize = requests(&world.wire)[..world.answered]
                        .iter()
                        .map(|payload| { let mut out = Vec::new(); encode_request(&mut out, &[payload]); out.len() })
                        .sum();
                    let cut = answered + (world.wire.len() - answered) * percent / 100;
                    let whole_or_part = requests(&world.wire).into_iter().scan(0, |at, payload| {
                        let mut out = Vec::new();
                        encode_request(&mut out, &[&payload]);
                        let begins = *at;
                        *at += out.len();
                        Some((begins, payload))
                    });
                    written.extend(whole_or_part.filter(|(begins, _)| *begins < cut).map(|(_, payload)| payload));
                    queue.lose(&world.wire[cut..], &ClientError::Closed, &mut wakers);
                    (world.wire, world.answered) = (Vec::new(), 0);
                }
                Step::Sweep(millis) => {
                    now += Duration::from_millis(millis);
                    queue.sweep(now, None, patience, &mut wakers);
                    prop_assert!(queue.alarm.is_none_or(|alarm| alarm > now));
                }
            }
            prop_assert!(queue.order.len() + queue.woken <= MAX_REQUESTS);
            prop_assert!(queue.bytes + queue.woken_bytes <= MAX_BYTES.max(24 * 3 + 60 + 10));
            prop_assert_eq!(queue.bytes, queue.order.iter().map(|entry| entry.len).sum::<usize>());
            prop_assert_eq!(queue.output.len(), queue.order.range(queue.taken..).map(|e| e.len).sum::<usize>());
        }
        for (id, payload) in std::mem::take(&mut world.callers) {
            if queue.poll(id, &[&payload], waker).is_pending() {
                queue.abandon(id, &mut wakers);
            }
        }
        queue.lose(&[], &ClientError::Closed, &mut wakers);
        queue.sweep(now + Duration::from_secs(1_000), None, patience, &mut wakers);
        prop_assert_eq!(queue.slots.in_use(), 0, "slots are left behind");
        prop_assert!(queue.order.is_empty() && queue.waiting.is_empty() && queue.woken == 0 && queue.bytes == 0);
    }
}

#[test]
fn a_request_larger_than_the_limit_goes_alone() {
    let mut queue = Queue::new(10, 100);
    let deadline = Instant::now() + Duration::from_secs(60);
    let waker = Waker::noop();
    let large = queue.submit(&[&[0; 1_000]], deadline, waker);
    let small = queue.submit(&[b"x"], deadline, waker);
    assert_eq!((queue.in_flight(), queue.waiting.len()), (1, 1));
    let mut bytes = Vec::new();
    assert_eq!(queue.take(&mut bytes, waker, true), Taken::Soon);
    assert_eq!(queue.take(&mut bytes, waker, false), Taken::Bytes);
    let mut wakers = Vec::new();
    queue.deliver([Frame::Null].into_iter(), 1, &mut wakers).unwrap();
    assert!(queue.poll(large, &[], waker).is_ready());
    assert!(queue.poll(small, &[b"x"], waker).is_pending());
    assert_eq!((queue.in_flight(), queue.waiting.len(), queue.woken), (1, 0, 0));
    assert_eq!(queue.deliver([Frame::Null].into_iter(), 1, &mut wakers), Err(Unasked));
    assert_eq!(queue.in_flight(), 1, "what was not taken was not answered");
}
