package document_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"shekara/provisioning/document"
)

// examples reads every documented example, by folder.
func examples(t testing.TB) map[string][]document.File {
	t.Helper()
	root := filepath.Join("..", "..", "docs", "examples")
	found := map[string][]document.File{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(path)
		found[filepath.Dir(path)] = append(found[filepath.Dir(path)], document.File{Name: path, Data: data})
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("read examples: %d folders, %v", len(found), err)
	}
	return found
}

func TestExamplesDecodeAndComeBackTheSame(t *testing.T) {
	for folder, files := range examples(t) {
		documents, problems := document.Decode(files)
		for _, p := range problems {
			t.Errorf("%s: %s", folder, p)
		}
		for _, d := range documents {
			again, problems := document.Decode([]document.File{{Name: "canonical", Data: []byte(d.Canonical())}})
			if len(problems) > 0 || len(again) != 1 || again[0].Canonical() != d.Canonical() {
				t.Errorf("%s does not come back the same: %v\n%s", d.Ref(), problems, d.Canonical())
			}
		}
	}
}
