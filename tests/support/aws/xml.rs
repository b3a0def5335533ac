//! The XML of the query protocols as a tree that can be changed: elements with text or children, one default namespace.

/// One element. Attributes other than `xmlns` do not occur in these answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    pub name: String,
    /// The default namespace, where this element declares it.
    pub namespace: Option<String>,
    pub text: String,
    pub children: Vec<Element>,
}

impl Element {
    /// An element with these children.
    pub fn node(name: &str, children: Vec<Self>) -> Self {
        Self {
            name: name.to_owned(),
            children,
            ..Self::default()
        }
    }

    /// An element with this text.
    pub fn leaf(name: &str, text: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            text: text.into(),
            ..Self::default()
        }
    }

    /// None where the text is no XML.
    pub fn parse(text: &str) -> Option<Self> {
        let document = roxmltree::Document::parse(text).ok()?;
        let root = document.root_element();
        let mut element = Self::of(root);
        element.namespace = root.default_namespace().map(str::to_owned);
        Some(element)
    }

    fn of(node: roxmltree::Node<'_, '_>) -> Self {
        let children: Vec<Self> = node
            .children()
            .filter(roxmltree::Node::is_element)
            .map(Self::of)
            .collect();
        let text = if children.is_empty() {
            node.text().unwrap_or_default().to_owned()
        } else {
            String::new()
        };
        Self {
            name: node.tag_name().name().to_owned(),
            namespace: None,
            text,
            children,
        }
    }

    /// The first element at this path of names, `a/b/c`, below this one.
    pub fn at(&self, path: &str) -> Option<&Self> {
        path.split('/').try_fold(self, |element, name| {
            element.children.iter().find(|child| child.name == name)
        })
    }

    /// Likewise, to be changed.
    pub fn at_mut(&mut self, path: &str) -> Option<&mut Self> {
        path.split('/').try_fold(self, |element, name| {
            element.children.iter_mut().find(|child| child.name == name)
        })
    }

    /// The text at that path; empty where there is none.
    pub fn text_at(&self, path: &str) -> &str {
        self.at(path).map_or("", |element| element.text.as_str())
    }

    /// The children at that path; none where there is no such element.
    pub fn list(&self, path: &str) -> &[Self] {
        self.at(path).map_or(&[], |element| element.children.as_slice())
    }

    /// Gives the child of that name this text; makes it where there is none.
    pub fn set(&mut self, name: &str, text: impl Into<String>) {
        self.put(Self::leaf(name, text));
    }

    /// Replaces the child of the same name, or adds it.
    pub fn put(&mut self, child: Self) {
        match self.children.iter_mut().find(|old| old.name == child.name) {
            Some(old) => *old = child,
            None => self.children.push(child),
        }
    }

    /// Removes all children of that name.
    pub fn remove(&mut self, name: &str) {
        self.children.retain(|child| child.name != name);
    }

    /// Calls `f` with this element and with all below it, from the outside in.
    pub fn walk(&mut self, f: &mut impl FnMut(&mut Self)) {
        f(self);
        for child in &mut self.children {
            child.walk(f);
        }
    }

    /// The document.
    pub fn document(&self) -> String {
        let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        self.write(&mut text);
        text
    }

    fn write(&self, into: &mut String) {
        into.push('<');
        into.push_str(&self.name);
        if let Some(namespace) = &self.namespace {
            into.push_str(" xmlns=\"");
            escape(namespace, into);
            into.push('"');
        }
        into.push('>');
        escape(&self.text, into);
        for child in &self.children {
            child.write(into);
        }
        into.push_str("</");
        into.push_str(&self.name);
        into.push('>');
    }
}

fn escape(text: &str, into: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            '\r' => into.push_str("&#13;"),
            other => into.push(other),
        }
    }
}
