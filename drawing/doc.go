// Package drawing makes pictures as SVG: the palette, icons and labels that all of ours share, and the picture of contours, zones and what may
// pass between them. A picture stands alone, fits light and dark, and needs no script and nothing from elsewhere.
//
// Owns: colours, icons, how wide a text is taken to be; the layout of cards in columns and of the lines between them.
// Never: knows what a zone or a flow is; reads or writes a file.
// Imports: the standard library.
// Test: go test ./drawing (unprivileged: nothing overlaps, nothing is cut, the SVG is well-formed).
package drawing
