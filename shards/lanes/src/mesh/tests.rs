//! Tests of the mesh: credits, budgets, turns of the sources, and who is rung how often.

use super::*;

type Mesh = Vec<Port<u32, u32>>;

fn mesh_of(shards: usize, credits: u32) -> Mesh {
    mesh(&MeshConfig { shards, credits })
}

/// What one `take` gave.
#[derive(Debug, Default, Eq, PartialEq)]
struct Taken {
    requests: Vec<(usize, u32)>,
    responses: Vec<(usize, u32)>,
    left: bool,
}

fn take(port: &mut Port<u32, u32>, budget: usize) -> Taken {
    let mut taken = Taken::default();
    taken.left = port.take(budget, &mut taken.requests, &mut taken.responses);
    taken
}

fn nobody_sleeps(shard: usize) {
    panic!("shard {shard} is rung though it does not sleep");
}

#[test]
fn a_request_and_its_response_arrive_when_published_and_not_before() {
    let mut mesh = mesh_of(2, 4);
    mesh[0].request(1, 7).unwrap();
    assert!(mesh[0].has_unpublished());
    assert_eq!(take(&mut mesh[1], 10), Taken::default());
    assert!(mesh[1].is_quiet());
    mesh[0].publish(nobody_sleeps);
    assert!(!mesh[0].has_unpublished());
    assert!(!mesh[1].is_quiet());
    assert_eq!(take(&mut mesh[1], 10), Taken { requests: vec![(0, 7)], ..Taken::default() });
    mesh[1].respond(0, 8);
    assert_eq!(take(&mut mesh[0], 10), Taken::default());
    mesh[1].publish(nobody_sleeps);
    assert_eq!(take(&mut mesh[0], 0), Taken { responses: vec![(1, 8)], ..Taken::default() });
    assert!(mesh.iter().all(Port::is_quiet));
}

#[test]
fn a_credit_is_spent_by_a_request_and_comes_back_with_the_response() {
    let mut mesh = mesh_of(3, 2);
    mesh[0].request(1, 1).unwrap();
    mesh[0].request(1, 2).unwrap();
    assert_eq!((mesh[0].credits(1), mesh[0].credits(2)), (0, 2));
    assert_eq!(mesh[0].request(1, 3), Err(3));
    mesh[0].publish(nobody_sleeps);
    assert_eq!(take(&mut mesh[1], 10).requests, [(0, 1), (0, 2)]);
    assert_eq!(mesh[0].request(1, 3), Err(3), "taken is not answered");
    mesh[1].respond(0, 1);
    mesh[1].publish(nobody_sleeps);
    assert_eq!(mesh[0].request(1, 3), Err(3), "answered is not taken");
    assert_eq!(take(&mut mesh[0], 10).responses, [(1, 1)]);
    assert_eq!(mesh[0].credits(1), 1);
    mesh[0].request(1, 3).unwrap();
    assert_eq!(mesh[0].credits(1), 0);
}
