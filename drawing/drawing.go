package drawing

import (
	"fmt"
	"html"
	"slices"
	"strings"
)

// palette is each colour's name, and its value on light and on dark paper.
var palette = []struct{ name, light, dark string }{
	{"paper", "#f6f7f9", "#0e1319"}, {"card", "#ffffff", "#161d26"}, {"ink", "#17202b", "#e6ecf3"}, {"soft", "#5c6b7c", "#93a1b1"},
	{"line", "#dde3ea", "#2a3542"}, {"faint", "#eef1f5", "#1d2631"},
	{"good", "#0f8a5f", "#3ecf96"}, {"good-soft", "#ddf3ea", "#12352a"}, {"bad", "#c8283a", "#ff6b78"}, {"bad-soft", "#fbe3e5", "#421c22"},
	{"tunnel", "#2f6fed", "#6ea1ff"}, {"tunnel-soft", "#2f6fed22", "#6ea1ff2b"},
	{"external", "#c77a0a", "#eda63c"}, {"internet", "#7a8797", "#8b99aa"}, {"integration", "#6d4bd8", "#a58bff"}, {"internal", "#0f8a5f", "#3ecf96"},
}

// Variables are the colours as custom properties of a page, for light and dark.
func Variables() string {
	var light, dark strings.Builder
	for _, c := range palette {
		fmt.Fprintf(&light, " --%s: %s;", c.name, c.light)
		fmt.Fprintf(&dark, " --%s: %s;", c.name, c.dark)
	}
	return fmt.Sprintf(":root {%s }\n@media (prefers-color-scheme: dark) { :root {%s } }", &light, &dark)
}

// coloured writes the colours into rules that name them as var(--name): programs that draw SVG outside a browser know no custom properties.
func coloured(css string) string {
	var names []string
	light, dark := css, css
	for _, c := range palette {
		names = append(names, c.name)
		light = strings.ReplaceAll(light, "var(--"+c.name+")", c.light)
		dark = strings.ReplaceAll(dark, "var(--"+c.name+")", c.dark)
	}
	slices.Sort(names)
	return light + "@media (prefers-color-scheme: dark) {" + dark + "}"
}

// Width is about how wide a text is, in units of a sans-serif of that size: taken rather too wide.
func Width(text string, size float64) float64 {
	sum := 0.0
	for _, r := range text {
		switch {
		case strings.ContainsRune("iIljt.,:;'|()[]/ ", r):
			sum += 0.36
		case r >= 'A' && r <= 'Z' || strings.ContainsRune("mwMW@%→", r) || r >= 'А' && r <= 'Я':
			sum += 0.80
		default:
			sum += 0.62
		}
	}
	return sum * size
}

// Cut shortens a text to a width.
func Cut(text string, size, width float64) string {
	if Width(text, size) <= width {
		return text
	}
	runes := []rune(text)
	for len(runes) > 1 && Width(string(runes)+"…", size) > width {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + "…"
}

// wrap breaks a text that is too wide into two lines, after a space or dash; what is too wide even so is cut.
func wrap(text string, size, width float64) []string {
	if Width(text, size) <= width {
		return []string{text}
	}
	at := 0
	for i, r := range text {
		if (r == ' ' || r == '-') && Width(text[:i+1], size) <= width {
			at = i + 1
		}
	}
	if at == 0 {
		return []string{Cut(text, size, width)}
	}
	return []string{strings.TrimSpace(text[:at]), Cut(text[at:], size, width)}
}

// Pill writes a text in a rounded label around a middle. Its classes are those of the rectangle and of the text.
func Pill(s *strings.Builder, x, y, half float64, rect, text, label string) {
	fmt.Fprintf(s, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="18" rx="9"/><text class="%s" x="%.1f" y="%.1f">%s</text>`,
		rect, x-half, y-9, 2*half, text, x, y+4, html.EscapeString(label))
}

// Icon is a path in a box of 20 by 20.
func Icon(kind string) string {
	switch kind {
	case "edge": // a shield
		return "M10 1 L18 4 V10 C18 14.5 14.5 17.8 10 19 C5.5 17.8 2 14.5 2 10 V4 Z M6.4 9.8 L9.2 12.6 L13.8 7.6"
	case "foreign": // a shield without our mark
		return "M10 1 L18 4 V10 C18 14.5 14.5 17.8 10 19 C5.5 17.8 2 14.5 2 10 V4 Z"
	case "router": // arrows both ways
		return "M2 7 H16 M12.5 3.5 L16 7 L12.5 10.5 M18 13 H4 M7.5 9.5 L4 13 L7.5 16.5"
	case "server": // a rack
		return "M3 2.5 H17 V8.5 H3 Z M3 11.5 H17 V17.5 H3 Z M6 5.5 H6.6 M6 14.5 H6.6"
	case "internet": // a globe
		return "M10 1.5 A8.5 8.5 0 1 0 10 18.5 A8.5 8.5 0 1 0 10 1.5 M1.5 10 H18.5 M10 1.5 C6 5.5 6 14.5 10 18.5 M10 1.5 C14 5.5 14 14.5 10 18.5"
	case "screened-subnet": // a wall with a door
		return "M2 3 H18 V17 H12.5 V10.5 H7.5 V17 H2 Z M2 7 H18"
	case "management": // a key
		return "M6.5 10 A3.2 3.2 0 1 0 6.5 10.1 M9.6 10 H18 M14.5 10 V13.5 M17 10 V12.5"
	case "partners", "ets-go", "dedicated-segment": // a building
		return "M2 18 H18 M3.5 18 V7 L10 2.5 L16.5 7 V18 M7 10 V14 M10 10 V14 M13 10 V14"
	case "gateway": // an arch
		return "M3 18 V9 A7 7 0 0 1 17 9 V18 M7.5 18 V10 A2.5 2.5 0 0 1 12.5 10 V18 M1.5 18 H18.5"
	default: // a screen
		return "M2 3 H18 V14 H2 Z M7 18 H13 M10 14 V18"
	}
}
