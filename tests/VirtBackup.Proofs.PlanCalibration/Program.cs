using VirtBackup.Proofs.PlanCalibration;
using VirtBackup.Testing.CommandLine;
using VirtBackup.Testing.Proofs;

LoadedCommandLine.Install();
return await ProofProgram.RunAsync(new PlanCalibrationProof(), args);
