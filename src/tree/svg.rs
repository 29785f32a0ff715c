//! A tree drawn as an SVG picture.

use std::fmt::Write as _;

use super::drawing::TreeDrawing;

/// Width of a character of the monospaced 13-pixel font, rounded up.
const CHARACTER: usize = 8;
const BOX_HEIGHT: usize = 24;
const ROW: usize = 32; // from one line of boxes to the next
const GAP: usize = 36; // between two levels, for the edges
const MARGIN: usize = 10;

impl TreeDrawing<'_> {
    /// A picture with the root on the left and a column a level; leaves take a line each and a parent stands in
    /// the middle of its children. Accepted nodes and the edges between them are green and thick.
    ///
    /// The picture is self-contained, with a title and nothing that needs a network.
    pub fn to_svg(&self) -> String {
        let (lines, height) = self.lines();
        let columns = self.columns();
        let width = columns.last().map_or(0, |(x, w)| x + w) + MARGIN;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" font-size=\"13\" role=\"img\">\n\
             <title>Draft tree of {} nodes</title>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
            self.nodes.len()
        );
        for node in 1..self.nodes.len() {
            let parent = self.tree.parents()[node] as usize;
            let (from, to) = (self.place(&columns, parent), self.place(&columns, node));
            let (x1, y1) = (from.0 + from.1, lines[parent]);
            let (x2, y2) = (to.0, lines[node]);
            let middle = (x1 + x2) / 2;
            let (colour, stroke) = self.edge(node);
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(
                svg,
                "<path d=\"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}\" fill=\"none\" \
                 stroke=\"{colour}\" stroke-width=\"{stroke}\"/>"
            );
        }
        for (node, drawn) in self.nodes.iter().enumerate() {
            let (x, width) = self.place(&columns, node);
            let (colour, stroke) = self.edge(node);
            let fill = if drawn.is_accepted {
                "#e3f4e8"
            } else {
                "#f6f6f6"
            };
            let top = lines[node] - BOX_HEIGHT / 2;
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"{BOX_HEIGHT}\" rx=\"4\" \
                 fill=\"{fill}\" stroke=\"{colour}\" stroke-width=\"{stroke}\"/>\n\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#222222\" \
                 xml:space=\"preserve\">{}</text>",
                x + width / 2,
                lines[node] + 4,
                escape(&drawn.label())
            );
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// The height of each node's middle, and of the picture.
    fn lines(&self) -> (Vec<usize>, usize) {
        let nodes = self.nodes.len();
        let mut lines = vec![0; nodes];
        let mut order: Vec<usize> = (0..nodes).collect();
        order.sort_by_key(|&node| self.tree.dfs_in()[node]);
        let mut next = MARGIN + BOX_HEIGHT / 2;
        for node in order {
            if self.tree.children(node).next().is_none() {
                lines[node] = next;
                next += ROW;
            }
        }
        // Children come after their parents, so backwards they are placed first.
        for node in (0..nodes).rev() {
            let children: Vec<usize> = self.tree.children(node).collect();
            if let (Some(first), Some(last)) = (children.first(), children.last()) {
                lines[node] = (lines[*first] + lines[*last]) / 2;
            }
        }
        (lines, next - ROW + BOX_HEIGHT / 2 + MARGIN)
    }

    /// Left edge and width of each level.
    fn columns(&self) -> Vec<(usize, usize)> {
        let mut widths = vec![0; self.tree.max_depth() as usize + 1];
        for (drawn, &depth) in self.nodes.iter().zip(self.tree.depths()) {
            let width = (drawn.label().chars().count() + 2) * CHARACTER;
            widths[depth as usize] = width.max(widths[depth as usize]);
        }
        let mut x = MARGIN;
        widths
            .into_iter()
            .map(|width| {
                let column = (x, width);
                x += width + GAP;
                column
            })
            .collect()
    }

    fn place(&self, columns: &[(usize, usize)], node: usize) -> (usize, usize) {
        columns[self.tree.depths()[node] as usize]
    }

    fn edge(&self, node: usize) -> (&'static str, u32) {
        if self.nodes[node].is_accepted {
            ("#1a7f37", 2)
        } else {
            ("#8c959f", 1)
        }
    }
}

/// Text that XML takes for text.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use crate::tree::DraftTree;

    fn picture() -> String {
        let tree = DraftTree::merge(7, &[vec![1, 2], vec![1, 3], vec![4]], 16).unwrap();
        tree.drawing(|token| format!("<{token}&\n>"))
            .probabilities(&[1.0, 0.5, 0.25, 0.125, 0.0625])
            .accepted(&[0, 1, 3, 77])
            .to_svg()
    }

    #[test]
    fn every_node_and_edge_is_drawn_and_accepted_ones_stand_out() {
        let svg = picture();
        assert_eq!(svg.matches("<text ").count(), 5);
        assert_eq!(svg.matches("<path ").count(), 4);
        // Three boxes and two edges.
        assert_eq!(svg.matches("#1a7f37").count(), 5);
        assert!(svg.contains("0.500") && svg.contains("0.062"));
        assert!(!svg.contains("1.000"), "the root is committed, not drafted");
    }

    #[test]
    fn tokens_are_escaped() {
        let svg = picture();
        assert!(svg.contains("&lt;1&amp;\\n&gt;"), "{svg}");
        let lines_of_text = svg.lines().count();
        // Head, title, ground, edges, boxes and texts, tail.
        assert_eq!(lines_of_text, 3 + 4 + 5 * 2 + 1);
    }

    #[test]
    fn no_two_boxes_of_a_level_overlap() {
        let sequences: Vec<Vec<u32>> = (0..20).map(|i| vec![i % 4, i % 5, i]).collect();
        let tree = DraftTree::merge(0, &sequences, 100).unwrap();
        let drawing = tree.drawing(|token| token.to_string());
        let (lines, height) = drawing.lines();
        for a in 0..tree.len() {
            assert!(lines[a] + super::BOX_HEIGHT / 2 < height);
            for b in 0..a {
                let same_level = tree.depths()[a] == tree.depths()[b];
                assert!(!same_level || lines[a].abs_diff(lines[b]) >= super::ROW);
            }
        }
    }
}
