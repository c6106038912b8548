//! The picture of a build's jobs and what they need: boxes in columns, lines between them.

use std::collections::BTreeMap;

/// Jobs that are drawn, at most: more would be a knot. The list below the picture has them all.
const NODES_MAX: usize = 40;

/// Characters of a name in its box, at most.
const NAME_CHARS_MAX: usize = 18;

const BOX_WIDTH: usize = 152;
const BOX_HEIGHT: usize = 30;
const COLUMN_GAP: usize = 44;
const ROW_GAP: usize = 10;
const MARGIN: usize = 2;

/// What the picture must know of a job.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its status word.
    pub status: &'static str,
    /// The names of the jobs it needs.
    pub needs: Vec<&'a str>,
    /// Where a click leads.
    pub href: String,
}

/// A picture, ready for its template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// One `d` of an SVG path for each need.
    pub lines: Vec<String>,
    /// The boxes.
    pub boxes: Vec<Box>,
}

/// One job in the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Box {
    /// Its left edge.
    pub x: usize,
    /// Its upper edge.
    pub y: usize,
    /// Its name, shortened.
    pub label: String,
    /// Its name.
    pub name: String,
    /// Its status word.
    pub status: &'static str,
    /// Where a click leads.
    pub href: String,
}

/// Draws jobs; nothing where a picture says nothing (no job needs another) or would be a knot.
pub fn draw(nodes: &[Node<'_>]) -> Option<Graph> {
    let no_needs = nodes.iter().all(|node| node.needs.is_empty());
    if no_needs || nodes.len() > NODES_MAX {
        return None;
    }
    let columns = columns(nodes);
    let mut rows_used: BTreeMap<usize, usize> = BTreeMap::new();
    let mut places = BTreeMap::new();
    let mut boxes = Vec::new();
    for (node, column) in nodes.iter().zip(columns) {
        let row = rows_used.entry(column).or_default();
        let x = MARGIN + column * (BOX_WIDTH + COLUMN_GAP);
        let y = MARGIN + *row * (BOX_HEIGHT + ROW_GAP);
        *row += 1;
        places.insert(node.name, (x, y));
        boxes.push(Box {
            x,
            y,
            label: shortened(node.name),
            name: node.name.to_owned(),
            status: node.status,
            href: node.href.clone(),
        });
    }
    let lines = nodes
        .iter()
        .flat_map(|node| node.needs.iter().map(move |need| (need, node.name)))
        .filter_map(|(need, name)| Some(line(*places.get(need)?, *places.get(name)?)))
        .collect();
    let right = boxes.iter().map(|one| one.x + BOX_WIDTH).max()?;
    let bottom = boxes.iter().map(|one| one.y + BOX_HEIGHT).max()?;
    Some(Graph { width: right + MARGIN, height: bottom + MARGIN, lines, boxes })
}

/// A job stands one column right of the last it needs. The domain has refused cycles; should one
/// come nevertheless, the passes end all the same.
fn columns(nodes: &[Node<'_>]) -> Vec<usize> {
    let mut column_of: BTreeMap<&str, usize> = nodes.iter().map(|node| (node.name, 0)).collect();
    for _pass in 0..nodes.len() {
        let mut moved = false;
        for node in nodes {
            let after = node.needs.iter().filter_map(|need| column_of.get(need)).max();
            let column = after.map_or(0, |column| column + 1).min(nodes.len() - 1);
            moved |= column_of.insert(node.name, column) != Some(column);
        }
        if !moved {
            break;
        }
    }
    nodes.iter().map(|node| column_of[node.name]).collect()
}

fn line(from: (usize, usize), to: (usize, usize)) -> String {
    let (x1, y1) = (from.0 + BOX_WIDTH, from.1 + BOX_HEIGHT / 2);
    let (x2, y2) = (to.0, to.1 + BOX_HEIGHT / 2);
    let bend = COLUMN_GAP / 2;
    format!("M{x1} {y1}C{} {y1} {} {y2} {x2} {y2}", x1 + bend, x2.saturating_sub(bend))
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME_CHARS_MAX {
        return name.to_owned();
    }
    name.chars().take(NAME_CHARS_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node<'a>(name: &'a str, needs: &[&'a str]) -> Node<'a> {
        Node { name, status: "passed", needs: needs.to_vec(), href: String::new() }
    }

    #[test]
    fn a_job_stands_right_of_all_it_needs_whatever_the_order_of_the_file() {
        let nodes = [node("deploy", &["test", "lint"]), node("test", &["lint"]), node("lint", &[])];
        let graph = draw(&nodes).unwrap();
        let x_of = |name: &str| graph.boxes.iter().find(|one| one.name == name).unwrap().x;
        assert!(x_of("lint") < x_of("test") && x_of("test") < x_of("deploy"));
        assert_eq!(graph.lines.len(), 3);
    }

    #[test]
    fn jobs_of_one_column_do_not_overlap() {
        let graph = draw(&[node("a", &[]), node("b", &[]), node("c", &["a", "b"])]).unwrap();
        assert_eq!(graph.boxes[1].y - graph.boxes[0].y, BOX_HEIGHT + ROW_GAP);
    }

    #[test]
    fn there_is_no_picture_where_it_would_say_nothing() {
        assert_eq!(draw(&[node("a", &[]), node("b", &[])]), None);
        assert_eq!(draw(&[]), None);
    }

    #[test]
    fn a_cycle_cannot_hang_it() {
        assert!(draw(&[node("a", &["b"]), node("b", &["a"])]).is_some());
    }
}
