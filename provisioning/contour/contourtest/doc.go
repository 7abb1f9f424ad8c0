// Package contourtest breaks each contour rule alone: documents that are refused, and the same with the one thing mended.
//
// Owns: nothing but those.
// Never: is imported by anything but tests.
// Imports: provisioning/document.
// Test: it is one.
package contourtest
