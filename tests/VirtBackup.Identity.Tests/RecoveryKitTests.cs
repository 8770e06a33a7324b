using System.Text;
using CsCheck;
using VirtBackup.Core;

namespace VirtBackup.Identity.Tests;

public sealed class RecoveryKitTests : IDisposable
{
    private static readonly Id16 Repository = Id16.Parse("0123456789abcdef0123456789abcdef");
    private static readonly byte[] Secret = [.. Enumerable.Range(7, 32).Select(static i => (byte)(i * 37))];
    private readonly Installation _here = new();
    private readonly string _text;

    public RecoveryKitTests()
    {
        using var kit = RecoveryKit.Create(Repository, Secret, _here.Authority);
        _text = Encoding.ASCII.GetString(RecoveryKitText.Format(kit));
    }

    [Fact]
    public void A_kit_gives_back_the_same_authority()
    {
        using var kit = Parse(_text);
        Assert.Equal(Repository, kit.Repository);
        Assert.Equal(Secret, kit.RootSecret.ToArray());
        using var authority = kit.RestoreAuthority(SystemEntropy.Instance, _here.Time);
        Assert.Equal(_here.Authority.CertificateHash, authority.CertificateHash);
        using var issued = authority.IssueServer(["localhost"], []);
        Assert.True(_here.Policy.ValidateServer(issued, "localhost").IsAccepted);
    }

    [Fact]
    public void Case_dashes_and_look_alike_letters_do_not_matter()
    {
        var lines = _text.Split('\n');
        for (var i = 0; i < lines.Length; i++)
        {
            if (DataNumber(lines[i]) > 0)
            {
                lines[i] = "  " + lines[i][..2] + lines[i][2..].Replace("-", " ").ToLowerInvariant().Replace('0', 'o').Replace('1', 'l') + "\r";
            }
        }
        using var kit = Parse(string.Join('\n', lines));
        Assert.Equal(Secret, kit.RootSecret.ToArray());
    }

    [Fact]
    public void Every_single_mistake_is_found_and_its_line_named()
    {
        const string Symbols = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        var lines = _text.Split('\n');
        var data = Enumerable.Range(0, lines.Length).Where(i => DataNumber(lines[i]) > 0).ToArray();
        Assert.Equal(7, data.Length);
        Gen.Select(Gen.Int[0, 6], Gen.Int[0, 27], Gen.Int[1, 31]).Sample((which, position, shift) =>
        {
            var damaged = lines.ToArray();
            var line = damaged[data[which]].ToCharArray();
            var at = Enumerable.Range(2, line.Length - 2).Where(i => line[i] is not ('-' or ' ')).ElementAt(position);
            line[at] = Symbols[(Symbols.IndexOf(line[at]) + shift) % 32];
            damaged[data[which]] = new string(line);
            var fault = Assert.Throws<FaultException>(() => Parse(string.Join('\n', damaged)));
            Assert.Equal($"The recovery kit cannot be read: line {which + 1} has a typing mistake. Compare with the paper.", fault.Message);
        });
    }

    [Fact]
    public void Every_swap_of_neighbours_is_found_and_its_line_named()
    {
        var lines = _text.Split('\n');
        for (var i = 0; i < lines.Length; i++)
        {
            var number = DataNumber(lines[i]);
            for (var at = 3; number > 0 && at + 1 < lines[i].Length; at++)
            {
                if (lines[i][at] == lines[i][at + 1] || lines[i][at] is '-' or ' ' || lines[i][at + 1] is '-' or ' ')
                {
                    continue;
                }
                var damaged = lines.ToArray();
                damaged[i] = $"{lines[i][..at]}{lines[i][at + 1]}{lines[i][at]}{lines[i][(at + 2)..]}";
                Assert.Contains($"line {number} has", Assert.Throws<FaultException>(() => Parse(string.Join('\n', damaged))).Message, StringComparison.Ordinal);
            }
        }
    }

    [Fact]
    public void A_missing_line_and_every_damaged_line_of_the_certificate_are_named()
    {
        var lines = _text.Split('\n').ToList();
        var begin = lines.IndexOf("-----BEGIN CERTIFICATE-----");
        var end = lines.IndexOf("-----END CERTIFICATE-----");
        Assert.True(end - begin > 5);
        for (var i = begin + 1; i < end; i++)
        {
            var damaged = lines.ToList();
            damaged[i] = (damaged[i][0] == 'A' ? 'B' : 'A') + damaged[i][1..];
            var fault = Assert.Throws<FaultException>(() => Parse(string.Join('\n', damaged)));
            Assert.Contains($"line {i - begin} of the certificate,", fault.Message, StringComparison.Ordinal);
        }
        Assert.Contains("line 3 is missing", Assert.Throws<FaultException>(
            () => Parse(string.Join('\n', lines.Where(static l => DataNumber(l) != 3)))).Message, StringComparison.Ordinal);
        Assert.Contains("END CERTIFICATE", Assert.Throws<FaultException>(
            () => Parse(string.Join('\n', lines.Take(end)))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Lines_of_another_kit_are_refused()
    {
        using var kit = RecoveryKit.Create(Repository, new byte[32], _here.Authority);
        var other = Encoding.ASCII.GetString(RecoveryKitText.Format(kit)).Split('\n').Single(static l => DataNumber(l) == 2);
        var mixed = string.Join('\n', _text.Split('\n').Select(l => DataNumber(l) == 2 ? other : l));
        Assert.Contains("another kit", Assert.Throws<FaultException>(() => Parse(mixed)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_disposed_kit_holds_zeros_and_a_saved_one_is_private()
    {
        using var folder = new TestFolder();
        var kit = Parse(_text);
        kit.Save(folder["kit.txt"]);
        kit.Dispose();
        Assert.All(kit.RootSecret.ToArray().Concat(kit.AuthorityScalar.ToArray()), static b => Assert.Equal(0, b));
        using var loaded = RecoveryKit.Load(folder["kit.txt"]);
        Assert.Equal(Secret, loaded.RootSecret.ToArray());
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(folder["kit.txt"]));
    }

    [Fact]
    public void Mutated_kits_fail_only_with_faults() =>
        Gen.Select(Gen.Int[0, _text.Length - 1], Gen.Int[0, 200], Gen.Byte.Array[0, 60]).Sample((at, cut, insert) =>
        {
            var bytes = Encoding.ASCII.GetBytes(_text);
            byte[] mutated = [.. bytes[..at], .. insert, .. bytes[Math.Min(bytes.Length, at + cut)..]];
            try
            {
                using var kit = RecoveryKitText.Parse(mutated);
                // Only the prose around the lines may change without notice.
                Assert.Equal(Secret, kit.RootSecret.ToArray());
                Assert.Equal(_here.Authority.Certificate.RawData, kit.AuthorityCertificate.ToArray());
            }
            catch (FaultException fault)
            {
                Assert.True(fault.Reason is FaultReason.Malformed or FaultReason.Corrupt);
            }
        });

    public void Dispose() => _here.Dispose();

    private static RecoveryKit Parse(string text) => RecoveryKitText.Parse(Encoding.UTF8.GetBytes(text));

    private static int DataNumber(string line) => line.Length > 2 && line[1] == ':' && char.IsAsciiDigit(line[0]) ? line[0] - '0' : 0;
}
