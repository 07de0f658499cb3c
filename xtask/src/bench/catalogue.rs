//! A document in XML, for programs that read one: always the same.

const ITEMS: u32 = 5000;

pub(super) fn text() -> String {
    let items: String = (0..ITEMS).map(item).collect();
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<catalogue>\n{items}</catalogue>\n")
}

/// Elements, attributes, text, references, and what is mixed.
fn item(number: u32) -> String {
    let key = number * 7919 % 20011;
    let (whole, part) = (key / 100, key % 100);
    format!(
        "<item id=\"i{number}\" key=\"{key}\">\n  <name>name {key}</name>\n  \
         <price currency=\"EUR\">{whole}.{part:02}</price>\n  \
         <!-- {number} -->\n  <note>less &lt; more &amp; <em>number {number}</em>, of many</note>\n</item>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_always_the_same() {
        let text = text();
        assert_eq!(text.matches("<item ").count(), ITEMS as usize);
        assert!(
            text.contains("<item id=\"i3\" key=\"3746\">\n  <name>name 3746</name>\n  <price currency=\"EUR\">37.46<")
        );
        assert!(text.ends_with("</item>\n</catalogue>\n"));
    }
}
