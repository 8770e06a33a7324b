using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Repository.Verification;
using VirtBackup.Sealing;

namespace VirtBackup.Cli.Offline;

/// <summary>Verifies the repository of a stopped controller.</summary>
internal static class OfflineVerification
{
    /// <param name="controller">Whose repository.</param>
    /// <param name="full">Also opens every chunk with the controller's escrowed keys.</param>
    /// <param name="progress">Told how it goes on.</param>
    /// <param name="cancellationToken">Stops it; it changes nothing.</param>
    public static async Task<VerifyResultView> RunAsync(StoppedController controller, bool full, ProgressLine progress, CancellationToken cancellationToken)
    {
        using var escrow = full ? controller.ReadEscrow() : null;
        using var keyholder = escrow is null ? null : new Keyholder(controller.Store, escrow, controller.Repository.Head.Uuid);
        using var opener = keyholder is null ? null : new EscrowedChunkOpener(keyholder, controller.Repository.Head);
        var options = new VerificationOptions { Signatures = new KeptSignatures(controller.Store), Opener = opener, Progress = new Teller(progress) };
        return ToView(await controller.Repository.VerifyAsync(options, cancellationToken));
    }

    private static VerifyResultView ToView(VerificationReport report) => new(
        (ulong)(report.Packs + report.Points), (ulong)report.Bytes, (ulong)report.ChunksOpened, (ulong)report.DamageCount,
        [.. report.Damages.Select(static damage => new DamageView(damage.ObjectKey, damage.Problem, [.. damage.Affected.Select(static loss => new DamagedRangeView(
            loss.Point.ToString(), loss.Vm.ToString(), loss.Stream.ToString(), (ulong)loss.Range.Offset, (ulong)loss.Range.Length, Doubtful: false))]))]);

    private sealed class Teller(ProgressLine line) : IProgress<VerificationProgress>
    {
        public void Report(VerificationProgress value) => line.Show(() => value.Points == 0
            ? $"verifying packs: {Units.Percent((ulong)value.Bytes, (ulong)value.BytesTotal)} ({Units.Bytes((ulong)value.Bytes)} of {Units.Bytes((ulong)value.BytesTotal)}), damaged: {Units.Count((ulong)value.Damages)}"
            : $"verifying recovery points: {Units.Count((ulong)value.Points)}, chunks opened: {Units.Count((ulong)value.Chunks)}, damaged: {Units.Count((ulong)value.Damages)}");
    }
}
