package scenarios

import (
	"embed"
	"io/fs"
)

//go:embed *.yaml */*.yaml
var files embed.FS

// Files are the scenarios and their documents.
func Files() fs.FS { return files }
