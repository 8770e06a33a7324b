using System.Text;
using CsCheck;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Hypervisors.Tests.Qemu;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests;

/// <summary>Bytes from guests and from image files: the answer is a fault in time, or what they say.</summary>
public sealed class HostileJsonTests
{
    private const string Info = """
        {"virtual-size":1048576,"filename":"e.qcow2","format":"qcow2","format-specific":{"type":"qcow2","data":{"compat":"1.1","corrupt":false}},
        "full-backing-filename":"/dev/null","backing-filename":"null","backing-filename-format":"raw"}
        """;

    private static readonly string[] Oddities =
    [
        "", "{}", "[]", "null", "7", "-1", "1e999", "\"x\"", "\"\\ud800\"", "{\"return\":{}}\n", "{\"return\":\"1\"}\n", "{\"return\":1e40}\n", "{\"error\":[]}\n",
        "{\"error\":{\"class\":7}}\n", "\n\n\n", "\u00ff", ",", "}", "{\"return\":", new('[', 600), "\"data-file\":\"x\",", "\"json:{}\"",
    ];

    private static readonly Gen<(int At, int Cut, byte[] Insert)> Edits = Gen.Select(
        Gen.Int[0, 400], Gen.Int[0, 60],
        Gen.OneOf(Gen.Byte.Array[0, 40], Gen.Int[0, Oddities.Length - 1].Select(i => Encoding.UTF8.GetBytes(Oddities[i]))));

    private static byte[] Mutate(byte[] source, (int At, int Cut, byte[] Insert) edit)
    {
        var at = Math.Min(edit.At, source.Length);
        return [.. source[..at], .. edit.Insert, .. source[Math.Min(source.Length, at + edit.Cut)..]];
    }

    [Fact]
    public void Descriptions_of_images_are_understood_or_refused()
    {
        Assert.True(ImageInfo.Parse(Info, "/srv/e.qcow2") is { LengthBytes: 1 << 20, Backing: { Path: "/dev/null", Format: "raw" }, Bitmaps.Count: 0 });
        Edits.Array[1, 3].Sample(edits =>
        {
            var text = Encoding.UTF8.GetString(edits.Aggregate(Encoding.UTF8.GetBytes(Info), Mutate));
            try
            {
                // What is followed is a file of this host, of a format that was named.
                Assert.True(ImageInfo.Parse(text, "/srv/e.qcow2").Backing is null or { Path: "/dev/null", Format: "raw" or "qcow2" } or { Path: "/" }, text);
            }
            catch (FaultException fault)
            {
                Assert.Contains("/srv/e.qcow2", fault.Message, StringComparison.Ordinal);
            }
        }, iter: 5000);
    }

    [Fact]
    public void Whatever_a_guest_says_its_agents_client_ends_in_time() =>
        Gen.Select(Edits, Gen.Bool, Gen.Int[0, 2]).Sample((edit, synchronises, which) =>
        {
            using var folder = new LabDirectory();
            var said = Mutate("{\"return\": 3}\n"u8.ToArray(), (edit.At % 16, edit.Cut, edit.Insert));
            var guest = new HostileGuest(folder.File("ga.sock"), said, synchronises);
            var limit = TimeSpan.FromMilliseconds(60);
            var talk = Task.Run(async () =>
            {
                await using var _ = guest;
                await using var client = await GuestAgentClient.ConnectAsync(guest.SocketPath, TimeProvider.System, SystemEntropy.Instance, limit, default);
                switch (which)
                {
                    case 0:
                        await client.PingAsync(limit, default);
                        break;
                    case 1:
                        await client.FreezeAsync(limit, default);
                        break;
                    default:
                        await client.ThawAsync(limit, default);
                        break;
                }
            });
            try
            {
                talk.WaitAsync(TimeSpan.FromSeconds(20)).GetAwaiter().GetResult();
            }
            catch (FaultException fault)
            {
                Assert.Contains(fault.Reason, new[] { FaultReason.Malformed, FaultReason.HypervisorUnavailable, FaultReason.FailedPrecondition });
            }
        }, iter: 300, threads: 2);

    [Fact]
    public void Option_texts_of_any_shape_are_read_and_written_the_same()
    {
        Gen.Char["ab=,.{}\"/: é"].Array[0, 40].Select(letters => new string(letters)).Sample(text =>
        {
            var once = OptionText.Parse(text).ToString();
            Assert.Equal(once, OptionText.Parse(once).ToString());
        }, iter: 5000);
        Gen.OneOf(Gen.String, Edits.Select(edit => Encoding.UTF8.GetString(Mutate(Encoding.UTF8.GetBytes(Info), edit)))).Sample(text =>
        {
            _ = JsonOption.TryParse(text);
            _ = TrackingName.TryParse(text, out _);
        }, iter: 5000);
    }

    /// <summary>Answers every request with the same bytes; synchronises first, or not at all.</summary>
    private sealed class HostileGuest(string path, byte[] said, bool synchronises) : FakePeer(path)
    {
        protected override async Task ServeAsync(Stream stream, CancellationToken cancellationToken)
        {
            using var reader = new StreamReader(stream, Encoding.Latin1);
            while (await reader.ReadLineAsync(cancellationToken) is { } line)
            {
                const string id = "\"id\":";
                var at = line.IndexOf(id, StringComparison.Ordinal);
                var answer = synchronises && at >= 0
                    ? Encoding.Latin1.GetBytes($"\u00ff{{\"return\": {new string([.. line.Skip(at + id.Length).TakeWhile(char.IsAsciiDigit)])}}}\n")
                    : said;
                await stream.WriteAsync(answer, cancellationToken);
            }
        }
    }
}
