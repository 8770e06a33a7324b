using System.Security.Cryptography;
using System.Text;
using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>
/// The recovery kit as ASCII text. Lines <c>1:</c> to <c>7:</c> hold 16 bytes each in <see cref="PaperCode"/> and a check: the
/// repository (1), the root secret (2, 3), the authority's scalar (4, 5), SHA-256 of those 80 bytes and the certificate's DER
/// (6, 7). A <c>Checks:</c> line holds a check for every line of the certificate's PEM, which ends the text. Whatever else
/// stands before the certificate is for people.
/// </summary>
public static class RecoveryKitText
{
    /// <summary>Longest text, bytes.</summary>
    public const int BytesMax = 32 << 10;

    private const int Lines = 7;
    private const int LineBytes = 16;
    private const int LineSymbols = 26;
    private const int SecretLines = 5;
    private const int CertificateLinesMax = 64;
    private const string ChecksLabel = "Checks:";
    private const string Begin = "-----BEGIN CERTIFICATE-----";
    private const string End = "-----END CERTIFICATE-----";

    /// <summary>The text, ASCII; it is secret, and the caller zeroes it.</summary>
    public static byte[] Format(RecoveryKit kit)
    {
        ArgumentNullException.ThrowIfNull(kit);
        var certificate = kit.AuthorityCertificate;
        var pem = PemEncoding.WriteString("CERTIFICATE", certificate).Split('\n');
        var body = pem[1..^1];
        var checks = body.Select(static (line, i) => PaperCode.CheckOfText(i + 1, Encoding.ASCII.GetBytes(line)));
        Span<byte> data = stackalloc byte[Lines * LineBytes];
        Span<char> symbols = stackalloc char[2 * LineSymbols];
        var text = new MemoryStream(BytesMax);
        try
        {
            kit.Repository.Write(data);
            kit.RootSecret.CopyTo(data[16..]);
            kit.AuthorityScalar.CopyTo(data[48..]);
            Hash(data[..(SecretLines * LineBytes)], certificate, data[(SecretLines * LineBytes)..]);
            Append(text, $"""
                VirtBackup recovery kit
                Repository {kit.Repository.ToUuidString()}

                Whoever holds this text can read every backup of this repository and act as its
                controller. Without it, backups are lost when the controller is lost. Keep copies
                on paper or offline, under lock, in two places; never beside the backups.

                The last two letters of each line check it: a typing mistake is found and its line
                named. Case does not matter; the letters I, L, O and U do not occur.


                """);
            for (var i = 0; i < Lines; i++)
            {
                var bytes = data.Slice(i * LineBytes, LineBytes);
                var length = PaperCode.Encode(bytes, symbols);
                Append(text, $"{i + 1}: ");
                Append(text, symbols[..length]);
                Append(text, $" {PaperCode.CheckOfBytes(i + 1, bytes)}\n");
            }
            Append(text, $"\n{ChecksLabel} {string.Join(' ', checks)}\n");
            Append(text, string.Join('\n', pem) + "\n");
            return text.GetBuffer().AsSpan(0, (int)text.Length).ToArray();
        }
        finally
        {
            CryptographicOperations.ZeroMemory(data);
            symbols.Clear();
            CryptographicOperations.ZeroMemory(text.GetBuffer());
        }
    }

    /// <summary>Reads the text, typed or copied.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>, naming every wrong line; or <see cref="FaultReason.Corrupt"/>.</exception>
    public static RecoveryKit Parse(ReadOnlySpan<byte> text)
    {
        if (text.Length > BytesMax)
        {
            throw FaultException.Malformed($"A recovery kit has at most {BytesMax} bytes: this is another file.");
        }
        Span<byte> data = stackalloc byte[Lines * LineBytes];
        Span<byte> expected = stackalloc byte[SHA256.HashSizeInBytes];
        try
        {
            var defects = new List<string>();
            var lines = Collect(text);
            for (var i = 1; i <= Lines; i++)
            {
                if (!lines.Numbered.TryGetValue(i, out var range))
                {
                    defects.Add($"line {i} is missing");
                }
                else if (range.Twice)
                {
                    defects.Add($"line {i} is there twice");
                }
                else if (!TryReadLine(i, text[range.Where], data.Slice((i - 1) * LineBytes, LineBytes)))
                {
                    defects.Add($"line {i} has a typing mistake");
                }
            }
            var certificate = ReadCertificate(text, lines, defects);
            if (defects.Count > 0)
            {
                throw FaultException.Malformed($"The recovery kit cannot be read: {string.Join("; ", defects)}. Compare with the paper.");
            }
            Hash(data[..(SecretLines * LineBytes)], certificate, expected);
            if (!expected.SequenceEqual(data[(SecretLines * LineBytes)..]))
            {
                throw FaultException.Malformed("Every line of the recovery kit looks right but its whole does not (lines 6 and 7): a line has several mistakes, or comes from another kit. Compare with the paper.");
            }
            return RecoveryKit.Assemble(Id16.Read(data), data.Slice(16, RecoveryKit.RootSecretBytes), data.Slice(48, EcKeys.ScalarBytes), certificate);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(data);
        }
    }

    private static bool TryReadLine(int number, ReadOnlySpan<byte> text, Span<byte> target)
    {
        Span<byte> values = stackalloc byte[LineSymbols + PaperCode.CheckSymbols];
        Span<byte> check = stackalloc byte[PaperCode.CheckSymbols];
        try
        {
            return PaperCode.ReadSymbols(text, values) == values.Length
                && PaperCode.ReadSymbols(Encoding.ASCII.GetBytes(PaperCode.CheckOf(number, values[..LineSymbols])), check) == check.Length
                && check.SequenceEqual(values[LineSymbols..])
                && PaperCode.TryDecode(values[..LineSymbols], target);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(values);
        }
    }

    /// <summary>The certificate's DER; defects are added to the list, and the result counts only if there are none.</summary>
    private static byte[] ReadCertificate(ReadOnlySpan<byte> text, KitLines lines, List<string> defects)
    {
        var before = defects.Count;
        if (!lines.HasBegin || !lines.HasEnd)
        {
            defects.Add($"the certificate's '{(lines.HasBegin ? End : Begin)}' line is missing or mistyped");
        }
        if (lines.Checks is not { } where)
        {
            defects.Add($"the '{ChecksLabel}' line is missing or mistyped");
        }
        else if (lines.HasEnd || !lines.HasBegin)
        {
            var checks = Encoding.ASCII.GetString(text[where]).Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (checks.Length != lines.Certificate.Count)
            {
                defects.Add($"the certificate has {lines.Certificate.Count} lines and the '{ChecksLabel}' line {checks.Length} checks");
            }
            else
            {
                for (var i = 0; i < checks.Length; i++)
                {
                    if (!string.Equals(checks[i], PaperCode.CheckOfText(i + 1, text[lines.Certificate[i]]), StringComparison.OrdinalIgnoreCase))
                    {
                        defects.Add($"line {i + 1} of the certificate, or its check in the '{ChecksLabel}' line, has a typing mistake");
                    }
                }
            }
        }
        if (defects.Count > before)
        {
            return [];
        }
        var base64 = new StringBuilder();
        foreach (var range in lines.Certificate)
        {
            base64.Append(Encoding.ASCII.GetString(text[range]));
        }
        var der = new byte[base64.Length];
        if (!Convert.TryFromBase64String(base64.ToString(), der, out var length))
        {
            defects.Add("the certificate has a typing mistake");
            return [];
        }
        return der[..length];
    }

    private static KitLines Collect(ReadOnlySpan<byte> text)
    {
        var lines = new KitLines();
        var at = 0;
        while (at < text.Length && !lines.HasEnd)
        {
            var length = text[at..].IndexOf((byte)'\n');
            var next = length < 0 ? text.Length : at + length + 1;
            var line = at..(length < 0 ? text.Length : at + length);
            lines.Add(text, Trim(text, line));
            at = next;
        }
        return lines;
    }

    private static Range Trim(ReadOnlySpan<byte> text, Range line)
    {
        var (start, end) = (line.Start.Value, line.End.Value);
        while (start < end && text[start] is (byte)' ' or (byte)'\t' or (byte)'\r')
        {
            start++;
        }
        while (end > start && text[end - 1] is (byte)' ' or (byte)'\t' or (byte)'\r')
        {
            end--;
        }
        return start..end;
    }

    private static void Hash(ReadOnlySpan<byte> secrets, ReadOnlySpan<byte> certificate, Span<byte> target)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(secrets);
        hash.AppendData(certificate);
        Check.That(hash.GetHashAndReset(target) == SHA256.HashSizeInBytes);
    }

    private static void Append(MemoryStream text, ReadOnlySpan<char> ascii)
    {
        foreach (var c in ascii)
        {
            text.WriteByte((byte)c);
        }
    }

    /// <summary>Where the lines that count are: positions only, the secrets stay where the caller can zero them.</summary>
    private sealed class KitLines
    {
        public Dictionary<int, (Range Where, bool Twice)> Numbered { get; } = [];

        public List<Range> Certificate { get; } = [];

        public Range? Checks { get; private set; }

        public bool HasBegin { get; private set; }

        public bool HasEnd { get; private set; }

        public void Add(ReadOnlySpan<byte> text, Range line)
        {
            var content = text[line];
            if (HasBegin)
            {
                HasEnd = Ascii.Equals(content, End);
                if (!HasEnd && !content.IsEmpty && Certificate.Count < CertificateLinesMax)
                {
                    Certificate.Add(line);
                }
            }
            else if (Ascii.Equals(content, Begin))
            {
                HasBegin = true;
            }
            else if (content.Length > ChecksLabel.Length && Ascii.EqualsIgnoreCase(content[..ChecksLabel.Length], ChecksLabel))
            {
                Checks = (line.Start.Value + ChecksLabel.Length)..line.End;
            }
            else if (content.Length > 2 && content[1] == ':' && content[0] - '0' is >= 1 and <= Lines)
            {
                var number = content[0] - '0';
                var where = (line.Start.Value + 2)..line.End;
                Numbered[number] = (where, Numbered.ContainsKey(number));
            }
        }
    }
}
