package api

import (
	"context"
	"errors"
	"io/fs"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

type secretsOutput struct {
	Body Secrets
}

type newSecretInput struct {
	Body SecretName
}

type importSecretInput struct {
	Name string `path:"name" maxLength:"220"`
	Body SecretValue
}

type exportSecretInput struct {
	Name string `path:"name" maxLength:"220"`
	Body Recipient
}

type exportSecretOutput struct {
	Body SealedSecret
}

func (s *Server) registerSecrets() {
	register(s, Acts, get("list-secrets", "/secrets", "Secrets", "Names of the secrets, and to whom others seal for this box"), s.listSecrets)
	register(s, Acts, created(post("new-secret", "/secrets", "Secrets", "Make a preshared key")), s.newSecret)
	register(s, Acts, put("import-secret", "/secrets/{name}", "Secrets", "Keep a preshared key that came from elsewhere"), s.importSecret)
	register(s, Acts, post("export-secret", "/secrets/{name}/exports", "Secrets", "Seal a preshared key to a recipient"), s.exportSecret)
}

func (s *Server) listSecrets(ctx context.Context, _ *struct{}) (*secretsOutput, error) {
	names, err := s.config.Engine.Secrets(ctx)
	if err != nil {
		return nil, err
	}
	recipient, err := s.config.Engine.Recipient(ctx)
	return &secretsOutput{Body: Secrets{Secrets: listed(names), Recipient: recipient}}, err
}

func (s *Server) newSecret(ctx context.Context, in *newSecretInput) (*struct{}, error) {
	err := s.config.Engine.NewSecret(context.WithoutCancel(ctx), in.Body.Name, callerOf(ctx).actor)
	return nil, refusedSecret(err, "body.name", "names are letters, digits, dots, hyphens and underscores")
}

func (s *Server) importSecret(ctx context.Context, in *importSecretInput) (*struct{}, error) {
	err := s.config.Engine.ImportSecret(context.WithoutCancel(ctx), in.Name, []byte(in.Body.Value), callerOf(ctx).actor)
	return nil, refusedSecret(err, "body.value", "give what wg genpsk prints, or what shekara secret export --to this box's recipient printed on the other box")
}

func (s *Server) exportSecret(ctx context.Context, in *exportSecretInput) (*exportSecretOutput, error) {
	sealed, err := s.config.Engine.ExportSecret(context.WithoutCancel(ctx), in.Name, in.Body.Recipient, callerOf(ctx).actor)
	return &exportSecretOutput{Body: SealedSecret{Name: in.Name, Sealed: string(sealed)}},
		refusedSecret(err, "body.recipient", "a recipient begins with age1: on the other box, shekara secret list prints it")
}

// refusedSecret tells a request that cannot be served from a box that cannot serve it: only the latter is the disk's word.
func refusedSecret(err error, field, hint string) error {
	var disk *fs.PathError
	var hinted interface{ Hint() string }
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		return &hintError{err, "a secret is never overwritten: choose another name"}
	case errors.Is(err, fs.ErrNotExist):
		return &hintError{err, "shekara secret list shows what there is"}
	case errors.As(err, &disk):
		return err
	case errors.As(err, &hinted):
		hint = hinted.Hint()
	}
	return badRequest(field, err.Error(), hint)
}

// created answers 201 with no body.
func created(op huma.Operation) huma.Operation {
	op.DefaultStatus = http.StatusCreated
	return op
}
