//! Cycles in a graph.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Edges with their weights.
pub(super) type Edges<N> = BTreeMap<(N, N), usize>;

/// Cycles until none is left: the shortest one, then the shortest without that one's lightest edge, and so on. Each
/// cycle begins with the edge that was removed.
pub(super) fn find<N: Copy + Ord>(mut edges: Edges<N>) -> Vec<Vec<(N, N)>> {
    let mut circles = Vec::new();
    while let Some(mut circle) = shortest(&edges) {
        let lightest = (0..circle.len()).min_by_key(|&index| edges[&circle[index]]).unwrap_or(0);
        circle.rotate_left(lightest);
        edges.remove(&circle[0]);
        circles.push(circle);
    }
    circles
}

fn shortest<N: Copy + Ord>(edges: &Edges<N>) -> Option<Vec<(N, N)>> {
    let nodes: BTreeSet<N> = edges.keys().map(|&(from, _)| from).collect();
    nodes.into_iter().filter_map(|node| shortest_from(edges, node)).min_by_key(Vec::len)
}

/// The shortest path from a node back to it.
fn shortest_from<N: Copy + Ord>(edges: &Edges<N>, start: N) -> Option<Vec<(N, N)>> {
    let mut came_from = BTreeMap::new();
    let mut open = VecDeque::from([start]);
    while let Some(node) = open.pop_front() {
        for &(from, to) in edges.keys().filter(|(from, _)| *from == node) {
            if came_from.contains_key(&to) {
                continue;
            }
            came_from.insert(to, from);
            if to == start {
                let mut circle = vec![(from, to)];
                while circle[circle.len() - 1].0 != start {
                    let node = circle[circle.len() - 1].0;
                    circle.push((came_from[&node], node));
                }
                circle.reverse();
                return Some(circle);
            }
            open.push_back(to);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_circle_begins_with_its_lightest_edge() {
        let edges = Edges::from([
            ((1, 2), 9),
            ((2, 3), 1),
            ((3, 1), 5),
            ((3, 4), 1),
            ((6, 7), 2),
            ((7, 6), 1),
            ((0, 1), 1),
        ]);
        assert_eq!(find(edges), [vec![(7, 6), (6, 7)], vec![(2, 3), (3, 1), (1, 2)]]);
    }

    #[test]
    fn what_leads_nowhere_back_is_no_circle() {
        assert!(find(Edges::from([((1, 2), 1), ((1, 3), 1), ((2, 3), 1)])).is_empty());
    }
}
