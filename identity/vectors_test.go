package identity

// vector is a throwaway key, public since it is here: never use one.
type vector struct {
	name string
	// text is the key file in base64, with line breaks that FromBase64 skips.
	text string
	// id is the peer id that the other implementation computes, empty if it cannot.
	id string
}

// jsVectors were made with privateKeyToProtobuf of @libp2p/crypto 5.1.23 and peerIdFromPrivateKey of @libp2p/peer-id
// 6.0.15, which has no peer ids for ECDSA.
var jsVectors = []vector{
	{
		name: "Ed25519",
		text: `CAESQAswVXqfxOkOM1h9osfsETZbgKXK7xQ5XoOozfIXPGGGJMOklPoimWJmRLllqRMtp5z+ZxUf3ELeYAzwkJfbgkc=`,
		id:   "12D3KooWCHssci8TuHZ3X9XvZRsint6dKAqurPazCVpqR1BkkJnA",
	},
	{
		name: "Secp256k1",
		text: `CAISILAdrsVCT543yRDXq/kuXlzMdUxRQFyKUs3jbgNJhUV4`,
		id:   "16Uiu2HAm8T7hH1Dkf1apR3GvLUgLrat86hTtB1CaBjCArkusRiV1",
	},
	{
		name: "ECDSA",
		text: `CAMSeTB3AgEBBCBDnn42TnnhhZyBP5+afbMdB4Jevk/J8KYnZU8BsOAbFaAKBggqhkjOPQMBB6FEA0IABOC5R9xnNgTsP/DkF+2k
f6nZGDbTObSVI7ZIQiSDsCSz8XtiEKtC9GshHezyJeczRXxLMgcDOhIEPibCWjTKtbY=`,
	},
	{
		name: "RSA",
		text: `CAASpwkwggSjAgEAAoIBAQDC85VVAogiSuxUl/YIWfsfVwQWP/d2cMeXXd2DuBDVxqPk67S7Xu3Vde+PPix1Cc1YUQ6EF8vftgJf
64+GC2ICN9qgTr5j0QHDl7jgjJvZzzSoZkwJNs8AvOvVagrJe97LKBmYtMVKBOs9ymuk7RgKHGopVRb1RODHyaiWjnN22t86dnLW
VUd5wqlDVR2CGOM2ZcK/5SZoAHaaUlVdMHr3AtnjLC4w7Ou2kSTokwVaPX4TrPnamzNkRboEIPxI6uFlMo4ZtAnIQjFmg6jJ1DoA
VyQb5vwtZumq7TBZEHIu7tx/GYjWg2Oa30/z/sNxglonqa98Y3ddYGP39UMHNHBBAgMBAAECggEAG6IeTTX2KPI4zIbbs3RZsagK
ZsL7Zzj2OaDu+LA7BqpI6fZ1IEgE60hzw/iaoZ5ZkoauyY978QJiFMmVhvkPE+Rp42Y1+30RRHG5nW6g2r9RpfsWFQpFTkP5I7+L
tuKNgnt1IV2iR2sqExChsHeA/FHpxGEQx4RTXk5ZzLl1aWe+KzRDk20GJovwt6oU+o9Y1ALGY5P/EZSPxdQj8ByXv7KFajWFoWMu
gZBUa/pFpptGdeo8ZWfGEPvA3QJOc8tzvEsn7ijLCBg/eL7/wj/U5n9j5zJG3Qm1cBF23gYZozHFrSmohr1AapmiV482wVPHwV9y
jghlJ4DF5XPEIQ+uCQKBgQD3OEmj+tWD3QVTj1v9bWdfqVyz/G5ZQc9l70OeSu6EmjrvWYZewGDMNBvBYjGU/0fFiHZh2Qr0eieC
7A7v4ZRoOVyL6vuxnSD6s770w3M4U0UZcscyYz7F/czAnEXa+qu65O9m8Wv+xc/NhsTWGt2v6j/HuZxUxXqp3vwf1nhhlQKBgQDJ
4BLo2mhkkBL91Nr5EY59oT8PcVgqpr8BsYWwfeX6RIW/DwCo3+2cyA+P964S+neyQV2+v65vsukZ9T8NPcv3TCMN9HFLbQ32a2FU
NnOMiB74FYvQXgt3R5QEOGPPA8bD/U8cKmfmeBsngeu4/avXcc9D/31Q3bQqqm8AMkwA/QKBgQDcm1wLemBiJS8Fm94oziH7GXTi
IBaQi8t5WQNsE824grCouajQkLdQQgeqj+dS4GK5gMazFi1ScFcl22SQ5ym5v8Y4DV7A5khxr0htvqPo1VXKGcRr0GhJ4et+zXUA
rcPlKToBENqgJQEElIi9zoeY3V5A6f75HqgRQiyWdJpD6QKBgE9PI76tR4PygjOMszZUqmk6tv6HJf8joTi2GHKdE4O99dl4uGag
CsakZlDGGnJESlASlBTDU3F4lVFoYwv9sisGk2MBHJ1oS6r6xrMB7WVRePE37cS/nbuPuFvsF3IV5rnKw5CqLEWD/A8KYKQ9rIwo
nyf0sLPbVdPJP3CRUgC1AoGANHbxrwzUfYyGT6p80ZHYMwO6CUgOYbziE6jGxSlZpqMpTqpW4G0s2dPaerfr6xkGIQ3co9E5TM3T
3XWQo8wEmBUqSOZv//rL8CQIwLVCItmu/5dmD39M6JUP996zhJ4/Myfxwlps2S1sIRJwi2Z/lK1gEHFLyoyEYZzsWZlQjIk=`,
		id: "QmU7fPJoYwcG9cSQXPi9yVKS6CCHroEziPQzkUMGSnMfbw",
	},
}

// specVectors are the test vectors of the libp2p specs, peer-ids/peer-ids.md, section Test vectors: the private key
// message and the public key message that follows from it, in hex.
var specVectors = []struct{ name, private, public string }{
	{
		name: "Ed25519",
		private: "080112407e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d" +
			"1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e",
		public: "080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e",
	},
	{
		name:    "Secp256k1",
		private: "0802122053DADF1D5A164D6B4ACDB15E24AA4C5B1D3461BDBD42ABEDB0A4404D56CED8FB",
		public:  "08021221037777e994e452c21604f91de093ce415f5432f701dd8cd1a7a6fea0e630bfca99",
	},
	{
		name: "ECDSA",
		private: "08031279307702010104203E5B1FE9712E6C314942A750BD67485DE3C1EFE85B1BFB520AE8F9AE3DFA4A4CA00A0608" +
			"2A8648CE3D030107A14403420004DE3D300FA36AE0E8F5D530899D83ABAB44ABF3161F162A4BC901D8E6ECDA020E8B6D" +
			"5F8DA30525E71D6851510C098E5C47C646A597FB4DCEC034E9F77C409E62",
		public: "0803125b3059301306072a8648ce3d020106082a8648ce3d03010703420004de3d300fa36ae0e8f5d530899d83abab44" +
			"abf3161f162a4bc901d8e6ecda020e8b6d5f8da30525e71d6851510c098e5c47c646a597fb4dcec034e9f77c409e62",
	},
}
