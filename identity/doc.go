// Package identity keeps the key pair that makes a peer the same peer tomorrow.
//
// # Usage
//
// A program that others have to find again keeps its key in a file. [Load] reads the file, or makes it with a new
// Ed25519 key on first use:
//
//	id, err := identity.Load("/var/lib/myapp/node.key")
//	if err != nil {
//		return err // names the file and the cure
//	}
//	host, err := libp2p.New(libp2p.Identity(id.PrivKey()))
//
// [Read] does the same but never makes a file. [Ephemeral] is a new peer that is gone when the program ends.
// [FromBase64] takes the key from a secret store or from Identity.PrivKey in kubo's configuration, [FromPrivKey] from
// code that has its own way of keeping keys; [Identity.Save] puts either into a file. To become another peer, load
// another path, and keep the old file for as long as others know the old peer id.
//
// # Format
//
// The file holds the bytes of the PrivateKey message of the libp2p specs (peer-ids/peer-ids.md, section Keys) and
// nothing else. That is what kubo writes with "ipfs key export" (format libp2p-protobuf-cleartext), what js-libp2p
// calls privateKeyToProtobuf, and what go-libp2p calls crypto.MarshalPrivateKey; a key moves between them as it is.
// New keys are Ed25519. RSA, ECDSA and Secp256k1 keys are read too, as is the old Ed25519 form of 96 bytes. (js-libp2p
// reads ECDSA keys but cannot make a peer id of one.) Keys are checked with one signature after reading: a damaged
// file does not start a peer that nobody can authenticate.
//
// # Security
//
// An [Identity] prints, logs and marshals as its peer id. What holds the secret lies behind a function, so that a
// printer that walks unexported fields finds nothing either. [Identity.PrivKey] and [Identity.ExportBase64] hand the
// secret out: what they return prints itself, so pass it on and keep it out of logs.
//
// On Unix a file that group or others may read, write or run is refused, as ssh does; the check is made on the opened
// file, not on the path. A container platform that cannot mount a secret with mode 0400 or 0600 can hand it over as text
// for [FromBase64]. On Windows the file has the access list of its directory, which is not checked.
//
// A file is made with mode 0600 whatever the umask, under a temporary name in the same directory, flushed to disk, and
// only then linked to its own name. So a crash leaves no half file under that name, a file that exists is never
// replaced, and of many processes that start at once on an absent file all get the same key. A crash can leave a
// "NAME.unfinished-…" file behind; it holds a key that nobody has used and may be deleted. A file system without hard
// links needs a rename that refuses to replace (Linux, macOS and Windows have one); without either, Load and Save fail.
//
// # Errors
//
// Every error of Load, Read, Save, FromBase64 and FromPrivKey is an [*Error]: what is wrong, and what to do about it.
// It matches [ErrInsecure], [ErrMalformed] or [ErrNotRegular] where that is the problem, and [io/fs.ErrNotExist],
// [io/fs.ErrPermission] and the like where the operating system said so. No error repeats any of the key, and a file
// that is refused is left as it is.
//
// # Concurrency
//
// Everything here is safe to call from many goroutines, and from many processes on one path.
package identity
