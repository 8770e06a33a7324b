using System.Globalization;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.StateResume;

/// <summary>What one guest says of itself.</summary>
/// <param name="Messages">The number of the last message that it counted in its memory.</param>
internal readonly record struct Told(long Messages, double UptimeSeconds);

/// <summary>One of two guests: first as it was booted, later as it was restored onto its own disks.</summary>
internal sealed class Talker(LabVm vm) : IAsyncDisposable
{
    private RestoredVm? _restored;

    public string Name => vm.Name;

    public LabVm Vm => vm;

    public async Task RestoreAsync(Installation site, string point, bool withState)
    {
        string[] options = withState ? ["--with-state"] : [];
        _restored = RestoredVm.Of((await site.RunAsync(["restore", "run", point, "--in-place", .. options])).Json);
    }

    /// <summary>As when its host loses power.</summary>
    public async Task DestroyAsync()
    {
        if (_restored is null)
        {
            await vm.KillAsync();
            return;
        }
        await _restored.DisposeAsync();
        _restored = null;
    }

    public async Task<string> ShellAsync(string line, CancellationToken cancellationToken) =>
        (await vm.ExecAsync(line, cancellationToken: cancellationToken)).EnsureSuccess();

    /// <exception cref="RefutedException">Its side of the conversation has ended.</exception>
    public async Task<Told> TellAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            // One look at it all: a count that is being written is empty for a moment, one that never was stays at 0.
            var said = (await ShellAsync("cat /run/broken 2>/dev/null; echo; cut -d' ' -f1 /proc/uptime; if [ -e /run/count ]; then cat /run/count; else echo 0; fi", cancellationToken)).Split('\n');
            if (said[0].Length > 0)
            {
                throw new RefutedException($"the connection of {Name} did not hold: {said[0]}");
            }
            if (said.Length > 2 && double.TryParse(said[1], NumberStyles.Float, CultureInfo.InvariantCulture, out var uptime)
                && long.TryParse(said[2], NumberStyles.None, CultureInfo.InvariantCulture, out var messages))
            {
                return new Told(messages, uptime);
            }
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_restored is not null)
        {
            await _restored.DisposeAsync();
        }
        await vm.DisposeAsync();
    }
}
