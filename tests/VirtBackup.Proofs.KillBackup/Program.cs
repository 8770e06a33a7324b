using VirtBackup.Proofs.KillBackup;
using VirtBackup.Testing.CommandLine;
using VirtBackup.Testing.Proofs;

LoadedCommandLine.Install();
return await ProofProgram.RunAsync(new KillBackupProof(), args);
