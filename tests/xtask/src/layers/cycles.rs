//! Circles in a graph.

use std::collections::{BTreeMap, BTreeSet};

/// The edges of each circle: of each set of nodes that all lead to each other.
pub(super) fn find<N: Copy + Ord, V>(edges: &BTreeMap<(N, N), V>) -> Vec<Vec<(N, N)>> {
    let mut nodes: BTreeSet<N> = edges.keys().flat_map(|&(from, to)| [from, to]).collect();
    let reach: BTreeMap<N, BTreeSet<N>> =
        nodes.iter().map(|&node| (node, reachable(edges, node))).collect();
    let mut circles = Vec::new();
    while let Some(node) = nodes.pop_first() {
        let circle: BTreeSet<N> =
            reach[&node].iter().copied().filter(|other| reach[other].contains(&node)).collect();
        if circle.len() > 1 {
            let inside = |(from, to): &(N, N)| circle.contains(from) && circle.contains(to);
            circles.push(edges.keys().copied().filter(inside).collect());
            nodes.retain(|node| !circle.contains(node));
        }
    }
    circles
}

/// Where edges lead from this node.
fn reachable<N: Copy + Ord, V>(edges: &BTreeMap<(N, N), V>, from: N) -> BTreeSet<N> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(node) = open.pop() {
        for &(start, to) in edges.keys() {
            if start == node && found.insert(to) {
                open.push(to);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_circle_is_found_with_its_edges_alone() {
        let edges = [(1, 2), (2, 3), (3, 1), (3, 4), (4, 5), (6, 7), (7, 6), (0, 1)];
        let edges = edges.into_iter().map(|edge| (edge, ())).collect();
        assert_eq!(find(&edges), [vec![(1, 2), (2, 3), (3, 1)], vec![(6, 7), (7, 6)]]);
    }

    #[test]
    fn what_leads_nowhere_back_is_no_circle() {
        let edges = [(1, 2), (1, 3), (2, 3)].into_iter().map(|edge| (edge, ())).collect();
        assert!(find(&edges).is_empty());
    }
}
