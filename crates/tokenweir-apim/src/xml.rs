//! A document as a tree of elements that know their lines.

use crate::error::Problem;
use crate::escape::{self, Fault};

/// The elements of one document, in its order: parents before their children.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) elements: Vec<Element>,
}

#[derive(Debug)]
pub(crate) struct Element {
    /// The name as written, without a namespace's prefix.
    pub(crate) name: String,
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) attributes: Vec<Attribute>,
    /// The text in it, if it has any and no elements.
    pub(crate) text: String,
    pub(crate) children: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) line: usize,
}

impl Element {
    pub(crate) fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }
}

/// Reads the document `file`.
pub(crate) fn read(file: &str, source: &str) -> Result<Tree, Problem> {
    let starts: Vec<usize> =
        source.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1).collect();
    let line = |at: usize| starts.partition_point(|start| *start <= at) + 1;
    let escaped = escape::escape(source).map_err(|Fault { at, message, remedy }| Problem {
        file: file.to_owned(),
        line: line(at),
        code: "DOCUMENT_REFUSED",
        message,
        remedy,
    })?;
    let document = roxmltree::Document::parse(&escaped.text).map_err(|error| {
        let position = error.pos();
        let row = escaped.text.split_inclusive('\n').take(position.row.saturating_sub(1) as usize).map(str::len).sum();
        let column =
            escaped.text.get(row..).unwrap_or_default().char_indices().nth(position.col.saturating_sub(1) as usize);
        let full = error.to_string();
        // Its own "at 3:9" counts in the escaped text.
        let reason = full.rsplit_once(" at ").map_or(full.as_str(), |(reason, _)| reason);
        Problem {
            file: file.to_owned(),
            line: line(escaped.origin(row + column.map_or(0, |(at, _)| at))),
            code: "DOCUMENT_MALFORMED",
            message: format!("this is not XML: {reason}"),
            remedy: "correct the syntax".into(),
        }
    })?;
    let mut elements: Vec<Element> = Vec::new();
    // Documents are in the order of their elements, so an element's parent has its place already.
    let mut places = std::collections::HashMap::new();
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        let place = elements.len();
        places.insert(node.id(), place);
        let parent = node.parent_element().and_then(|parent| places.get(&parent.id()).copied());
        if let Some(parent) = parent {
            elements[parent].children.push(place);
        }
        let attributes = node.attributes().map(|attribute| Attribute {
            name: attribute.name().to_owned(),
            value: attribute.value().to_owned(),
            line: line(escaped.origin(attribute.range().start)),
        });
        let text = if node.children().any(|child| child.is_element()) { "" } else { node.text().unwrap_or_default() };
        elements.push(Element {
            name: node.tag_name().name().to_owned(),
            line: line(escaped.origin(node.range().start)),
            attributes: attributes.collect(),
            text: text.to_owned(),
            children: Vec::new(),
        });
    }
    Ok(Tree { elements })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_lines() {
        let source =
            "<!--\n-->\n<policies>\n  <a x=\"@{\n return \"<b>\";\n}\"\n   y='2'/>\n  <b>text</b>\n</policies>";
        let tree = read("p.xml", source).unwrap();
        let lines: Vec<_> = tree.elements.iter().map(|element| (element.name.as_str(), element.line)).collect();
        assert_eq!(lines, [("policies", 3), ("a", 4), ("b", 8)]);
        assert_eq!(tree.elements[1].attributes[1].line, 7);
        assert_eq!(tree.elements[1].attributes[0].value, "@{\n return \"<b>\";\n}");
        assert_eq!(tree.elements[2].text, "text");
        assert_eq!(tree.elements[0].children, [1, 2]);
    }

    #[test]
    fn syntax_errors_have_their_line() {
        for (source, line) in [
            ("<a>\n<b x=\"@(\"<\")\">\n</a>", 3),
            ("<a>\n</a>\n<b/>", 3),
            ("<a>\n<b x='1' x='2'/></a>", 2),
            ("<a>\n<b x/></a>", 2),
            ("", 1),
            ("\n\n<a><b></a>", 3),
        ] {
            let problem = read("p.xml", source).unwrap_err();
            assert_eq!(problem.line, line, "{source}: {problem}");
            assert!(problem.message.starts_with("this is not XML: "), "{problem}");
        }
    }
}
