// Checks a server's log with the verifiers of the Go module ecosystem, which know nothing of
// Stemma: golang.org/x/mod/sumdb/{note,tlog}.
//
// Usage: interop URL. Ends with 0 when all that the server shows holds.
package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// The height of a tile: it has 256 hashes.
const tileHeight = 8

type server struct{ url string }

func main() {
	if len(os.Args) != 2 {
		fail("usage: interop URL")
	}
	s := server{os.Args[1]}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(s.get("/api/log/key"))))
	must(err)
	signed := s.get("/api/log/checkpoint")
	tree := checkpoint(signed, verifier)
	refuseTampered(signed, verifier)

	digests := s.digests(tree.N)
	leaves := make([]int64, tree.N)
	for i := range leaves {
		leaves[i] = tlog.StoredHashIndex(0, int64(i))
	}
	// Reading them through tiles holds every tile against the root.
	hashes, err := tlog.TileHashReader(tree, &tiles{s}).ReadHashes(leaves)
	must(err)
	for i, hash := range hashes {
		if hash != tlog.RecordHash(digests[i]) {
			fail("the leaf of position %d is not its event's", i)
		}
	}
	for n := int64(0); n < tree.N; n++ {
		s.checkInclusion(tree, n, digests[n])
	}
	for from := int64(1); from <= tree.N; from++ {
		s.checkConsistency(tree, from, verifier)
	}
	fmt.Printf("%d events hold\n", tree.N)
}

// checkpoint opens a signed note and reads the tree's size and root in it.
func checkpoint(signed []byte, verifier note.Verifier) tlog.Tree {
	opened, err := note.Open(signed, note.VerifierList(verifier))
	must(err)
	lines := strings.Split(opened.Text, "\n")
	if lines[0] != verifier.Name() {
		fail("the origin %q is not the key's name", lines[0])
	}
	var size int64
	_, err = fmt.Sscanf(lines[1], "%d", &size)
	must(err)
	return tlog.Tree{N: size, Hash: hash(lines[2])}
}

func refuseTampered(signed []byte, verifier note.Verifier) {
	changed := append([]byte(nil), signed...)
	changed[strings.IndexByte(string(changed), '\n')+1] ^= 1
	if _, err := note.Open(changed, note.VerifierList(verifier)); err == nil {
		fail("a changed checkpoint was taken")
	}
}

func (s server) checkInclusion(tree tlog.Tree, n int64, digest []byte) {
	var shown struct{ Path []string }
	s.read(fmt.Sprintf("/api/log/proof/inclusion?position=%d&size=%d", n, tree.N), &shown)
	proof := tlog.RecordProof(path(shown.Path))
	must(tlog.CheckRecord(proof, tree.N, tree.Hash, n, tlog.RecordHash(digest)))
	if len(proof) > 0 {
		proof[0][0] ^= 1
		if tlog.CheckRecord(proof, tree.N, tree.Hash, n, tlog.RecordHash(digest)) == nil {
			fail("a changed proof was taken")
		}
	}
}

func (s server) checkConsistency(tree tlog.Tree, from int64, verifier note.Verifier) {
	earlier := checkpoint(s.get(fmt.Sprintf("/api/log/checkpoint?size=%d", from)), verifier)
	var shown struct{ Path []string }
	s.read(fmt.Sprintf("/api/log/proof/consistency?from=%d&to=%d", from, tree.N), &shown)
	must(tlog.CheckTree(tlog.TreeProof(path(shown.Path)), tree.N, tree.Hash, from, earlier.Hash))
}

// digests reads the digests of the first events, in order.
func (s server) digests(count int64) [][]byte {
	var digests [][]byte
	after := "start"
	for int64(len(digests)) < count {
		var page struct {
			Items []struct {
				Position int64
				ID       string
			}
		}
		s.read("/api/events?limit=500&after="+after, &page)
		for _, event := range page.Items {
			_, text, _ := strings.Cut(event.ID, ":")
			digest, err := hex.DecodeString(text)
			must(err)
			digests = append(digests, digest)
			after = fmt.Sprint(event.Position)
		}
	}
	return digests[:count]
}

type tiles struct{ server }

func (t *tiles) Height() int { return tileHeight }

func (t *tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		place := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight))
		all = append(all, t.get("/api/log/tile/"+place))
	}
	return all, nil
}

func (t *tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (s server) get(path string) []byte {
	response, err := http.Get(s.url + path)
	must(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(err)
	if response.StatusCode != http.StatusOK {
		fail("%s: %s: %s", path, response.Status, body)
	}
	return body
}

func (s server) read(path string, into interface{}) {
	must(json.Unmarshal(s.get(path), into))
}

func path(texts []string) []tlog.Hash {
	var hashes []tlog.Hash
	for _, text := range texts {
		hashes = append(hashes, hash(text))
	}
	return hashes
}

func hash(text string) (h tlog.Hash) {
	bytes, err := base64.StdEncoding.DecodeString(text)
	must(err)
	if len(bytes) != len(h) {
		fail("%q is not a hash", text)
	}
	copy(h[:], bytes)
	return h
}

func must(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func fail(format string, arguments ...interface{}) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}
