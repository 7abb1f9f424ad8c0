package scenarios

import (
	"embed"
	"io/fs"
)

//go:embed *.yaml */*.yaml */*.conf */*.sh
var files embed.FS

// Files are the scenarios, their documents, and what they give to foreign programs.
func Files() fs.FS { return files }
