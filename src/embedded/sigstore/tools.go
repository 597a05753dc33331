//go:build tools

package tools

import (
	_ "github.com/sigstore/fulcio"
	_ "github.com/sigstore/timestamp-authority/v2/cmd/timestamp-server"
)
