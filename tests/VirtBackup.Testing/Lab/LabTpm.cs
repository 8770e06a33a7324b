using System.Globalization;

namespace VirtBackup.Testing.Lab;

/// <summary>
/// A TPM 2.0 emulator (swtpm) for one <see cref="LabVm"/>, started as people do: it ends with its machine. Disposal kills it and
/// removes its state.
/// </summary>
public sealed class LabTpm : IAsyncDisposable
{
    private const string Index = "01500016", Owner = "40000001", Authorisation = "00000009" + "40000009" + "0000" + "00" + "0000";
    private static readonly TimeSpan StartLimit = TimeSpan.FromSeconds(20);
    private readonly LabDirectory directory = new();
    private BackgroundProc? swtpm;

    private LabTpm() => Directory.CreateDirectory(StateFolder);

    public string StateFolder => directory.File("state");

    /// <summary>The file of the TPM's permanent memory.</summary>
    public string StatePath => Path.Combine(StateFolder, "tpm2-00.permall");

    public string Socket => directory.File("tpm.sock");

    /// <summary>What a machine with this TPM is started with.</summary>
    public IReadOnlyList<string> Arguments => ["-chardev", $"socket,id=chrtpm,path={Socket}", "-tpmdev", "emulator,id=tpm0,chardev=chrtpm", "-device", "tpm-tis,tpmdev=tpm0"];

    public static async Task<LabTpm> StartAsync()
    {
        var tpm = new LabTpm();
        await tpm.StartAgainAsync();
        return tpm;
    }

    /// <summary>After it ended with its machine.</summary>
    public async Task StartAgainAsync()
    {
        if (swtpm is not null) await swtpm.DisposeAsync();
        File.Delete(Socket);
        swtpm = BackgroundProc.Start("swtpm", ["socket", "--tpm2", "--tpmstate", $"dir={StateFolder},mode=0600", "--ctrl", $"type=unixio,path={Socket},mode=0600", "--terminate"], directory.Path);
        using var limit = new CancellationTokenSource(StartLimit);
        while (!IsListening())
        {
            if (swtpm.HasExited || limit.IsCancellationRequested) throw new LabException($"swtpm does not start: {swtpm.Stderr}");
            await Task.Delay(10);
        }
    }

    // The socket is there a moment before it listens; a connection would be taken for the machine's. Flags are the fourth field (__SO_ACCEPTCON).
    private bool IsListening() => File.ReadLines("/proc/net/unix").Any(line => line.EndsWith(" " + Socket, StringComparison.Ordinal) && line.Split(' ')[3] == "00010000");

    /// <summary>Waits until it has ended.</summary>
    public async Task WaitForEndAsync() => await swtpm!.WaitForExitAsync().WaitAsync(StartLimit);

    /// <summary>A line of shell for the guest that puts eight bytes into the TPM's memory, in a place of their own, which it makes when it is new.</summary>
    public static string WriteLine(ulong value, bool isNew) =>
        (isNew ? Command("012a", Owner + Authorisation + "0000" + "000e" + Index + "000b" + "02060006" + "0000" + "0008") + " && " : "")
        + Command("0137", Owner + Index + Authorisation + "0008" + value.ToString("x16", CultureInfo.InvariantCulture) + "0000");

    /// <summary>A line of shell for the guest that prints the TPM's answer with those bytes, in hexadecimal.</summary>
    public static string ReadLine => Command("014e", Owner + Index + Authorisation + "0008" + "0000");

    /// <summary>The bytes in the answer of <see cref="ReadLine"/> (TPM 2.0, part 3: header, size of parameters, size of data, data).</summary>
    public static ulong ValueIn(string printed)
    {
        var hex = string.Concat(printed.Where(char.IsAsciiHexDigit));
        if (hex.Length < 48 || hex[12..20] != "00000000") throw new LabException($"The TPM answers {printed}");
        return ulong.Parse(hex[32..48], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
    }

    // The answer must be read on the descriptor that asked; one that tells of a failure is one, too.
    private static string Command(string code, string rest)
    {
        var bytes = Convert.FromHexString($"8002{(rest.Length / 2) + 10:x8}0000{code}{rest}");
        var text = string.Concat(bytes.Select(value => "\\" + Convert.ToString(value, 8).PadLeft(3, '0')));
        return $"printf '{text}' > /run/tpm && {{ dd if=/run/tpm bs=4096 count=1 >&3 && dd bs=4096 count=1 <&3; }} 3<>/dev/tpm0 2>/run/tpm-dd | od -An -v -tx1 | tr -d ' \\n' | grep '^8002........00000000'";
    }

    public async ValueTask DisposeAsync()
    {
        if (swtpm is not null) await swtpm.DisposeAsync();
        directory.Dispose();
    }
}
